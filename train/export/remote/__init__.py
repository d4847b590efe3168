"""Files that go beside exported weights and import nothing of ours there: transformers reads them from that folder.

`modeling_*.py` are copied as they are; of `processing.py` an export gets its own, with the tile scheme's source in it
(train/export/code.py).
"""
