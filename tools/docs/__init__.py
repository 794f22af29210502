"""The documentation site: pages made from docs/, from the docstrings and from the statements, rendered by zensical."""
