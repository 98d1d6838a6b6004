"""Ensembles and chains: models that are made of other models, as flavours like any other.

What belongs here: the arithmetic that makes one answer of several, and loading the members. What never does: training
(`sdk.ensembles` fits stacks), and the registry's rows.
"""
