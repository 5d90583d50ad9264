"""The search on Ray: what is suggested (sampler), how far it may go (scheduler, referee) and who trains it (workers);
then retraining the best, and the factor study.
"""
