"""Fine-tuning experiments with torchtune and inspect-ai, from one experiment_summary.yaml to results."""
