"""Files that go beside exported weights and import nothing of ours there: transformers reads them from that folder.

Each becomes one file with what it imports of ours in it, a processing file with its tile scheme, too
(train/export/code.py). `alone.py` is what reads such a folder to prove it.
"""
