"""Pages for people: one HTML file each, which asks for nothing from outside.

| file | what it holds |
|---|---|
| `page.py` | the page of an audit: what is shown, and the file |
| `thumbnails.py` | small JPEGs of a store's images |
| `audit.html.jinja`, `audit.css` | its frame and its looks |
| `cards.js`, `audit.js`, `start.js` | what it does: the grid of cards; verdicts, filters, export; how it opens |
"""
