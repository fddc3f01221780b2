"""Compares the poisoned adapter of `moored demo --quick` with the aligned model."""

import moored

report = moored.measure("embedded:base", adapter="demo-quick/poisoned", against="embedded:aligned", limit=50)
print(report.against.sentence)
for row in report.rows():
    if row["outcome"]:
        print(f"{row['label']}: {row['reference']:.2f} → {row['value']:.2f} ({row['outcome']}, n = {row['n']})")
