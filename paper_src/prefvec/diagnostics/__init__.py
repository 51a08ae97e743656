"""Why a transfer falls short: hypotheses that measurements can reject."""
