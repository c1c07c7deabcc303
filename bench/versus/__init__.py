"""Two revisions play duets: which of their heads became slower? `tox -e versus -- REV [REV2]`."""
