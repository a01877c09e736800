"""What several tests share: images, embedders, detectors, fresh processes, damage, hosts.

Imported as ``from helpers.embedders import ...``, by tests and by the programs that tests start in
the folder ``tests``.
"""
