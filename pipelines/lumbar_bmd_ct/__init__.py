"""BMD of L1 to L4 from unenhanced abdominal CT (Yasaka et al., Eur Radiol 2020;30:3549)."""
