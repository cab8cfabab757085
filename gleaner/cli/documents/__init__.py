"""Documents that are made from the contract, the settings and the commands."""
