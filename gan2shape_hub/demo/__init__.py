"""The work behind ``app.py``: everything of the demo but its layout.

``workspace`` keeps visitors apart, ``shelf`` holds one checkpoint in memory, ``subject`` prepares what is
reconstructed, ``line`` and ``work`` run it, ``quick`` and ``edits`` relight and turn, ``files`` writes the downloads,
``desk`` answers the events of the page, ``endpoints`` those of other programs.
"""
