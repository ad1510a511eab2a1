"""A local openEO back-end over HTTP that really executes process graphs.

It stands alone: nothing of openeo-fleet is imported here. Heavy libraries are only imported by the executor processes,
so that the web server answers at once.
"""
