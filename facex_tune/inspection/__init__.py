"""What there is to search over and what it costs here: the catalog of parts, costs of models, sheets of augmented
faces, and the doctor, who says what works on this machine.
"""
