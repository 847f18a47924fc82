"""Places to which a file is streamed: it appears there under its name whole, or not at all.

making.py    a destination from its settings
sending.py   chunks, read ahead by a bounded number, to a destination
base.py      what a destination is
folder.py, s3.py, sftp.py, dropbox.py
"""
