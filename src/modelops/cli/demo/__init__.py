"""The main job, shown on real data: `mops demo`.

What belongs here: the story, told through the platform's public faces alone and verified from outside. What never does:
anything that reaches behind those faces.
"""
