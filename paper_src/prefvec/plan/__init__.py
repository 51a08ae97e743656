"""What a profile costs, before it is run: work counted, rates measured, time, memory and disk."""
