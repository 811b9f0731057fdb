"""Lin et al. 2022 (FedNLP) on SQuAD."""
