"""What the team shipped as `sentiment` v2. Its file is named as v1's and has other content, on purpose."""
