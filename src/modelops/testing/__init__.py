"""Fixtures and contract suites, shipped for everybody who writes a plug-in or an adapter.

What belongs here: pytest classes that say what a port promises (`BlobStoreContract`, `JobBackendContract`,
`DeployerContract`; derive from one, give it the fixtures it names, and pytest does the rest), and the test doubles that
tests of the platform share. What never does: anything that the platform itself imports.
"""
