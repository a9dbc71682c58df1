"""From drawn parts to a picture of the worst defect."""

import pupilla

# Two small data sets, drawn in code. With parts of your own, leave this line out.
pupilla.demo("pupilla-demo")
parts = pupilla.Dataset("pupilla-demo/data/washer")

model = pupilla.train(parts)
model.save("washer.pupilla")
print(pupilla.evaluate(model, parts))

results = model.inspect_many(test.path for test in parts.test)
worst = max(results, key=lambda result: result.pred_score)
print(worst)
worst.save_heatmap("worst.png")
