"""The same for programs: the API, files to download, metrics."""
