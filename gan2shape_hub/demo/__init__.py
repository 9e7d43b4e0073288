"""The demo: ``page`` is its layout with ``result_tabs``, ``app.py`` and ``gan2shape demo`` start it.

``visitors`` are kept apart, ``shelf`` holds one checkpoint in memory and prepares pictures for it, ``runs`` does the
work, ``results`` are relit, turned and written, ``desk`` answers the events of the page, ``endpoints`` those of other
programs. ``faces`` are the finished examples. ``markup`` and ``assets/`` are the page's look, its viewer too.
"""
