"""Destinations of reports: a file appears under its name complete, or not at all.

base.py      the interfaces Destination and Upload
upload.py    streams chunks to a destination, reading a bounded number of them ahead
factory.py   creates a destination from its settings
every other module is one kind of destination
"""
