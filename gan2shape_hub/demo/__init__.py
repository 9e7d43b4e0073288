"""The demo: ``page`` is its layout, ``app.py`` and ``gan2shape demo`` start it.

``workspace`` keeps visitors apart, ``shelf`` holds one checkpoint in memory, ``subject`` prepares what is
reconstructed, ``line`` and ``work`` run it, ``quick`` and ``edits`` relight and turn, ``files`` writes the downloads,
``desk`` answers the events of the page, ``endpoints`` those of other programs.
"""
