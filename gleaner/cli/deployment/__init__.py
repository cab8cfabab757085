"""The server side in containers: what is made before its first start, and who may join it.

One volume for each service, with its own secrets and nobody else's. Who may connect stands in
`broker/accounts.json`; everything that mosquitto reads is made from it.
"""
