"""Client drift under label skew, and six algorithms: SCAFFOLD, Karimireddy et al. 2020."""
