"""How a run is shown: the page, its figures and charts."""
