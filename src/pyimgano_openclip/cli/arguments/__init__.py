"""The arguments of each command; light, for ``--help`` to be instant."""
