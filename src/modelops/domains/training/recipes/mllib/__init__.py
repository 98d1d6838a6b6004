"""The recipes that train with Spark's MLlib. What they register is exported as numbers and served without Spark.

Belongs here: what reads tables as Spark's, the candidates, and the export. Never here: how a session is made, which is the
engine's, and what a model says of rows, which is `domains/models/mllib`.
"""
