"""
Training
========

All parts are there: convolution, ReLU, pooling, flattening and fully connected layers make LeNet, a network
that reads digits. It has 61,706 numbers, its *parameters*, and at first they are random. Training changes
them step by step, until the network says what we want to hear.
"""

import numpy as np
from matplotlib.figure import Figure

import fastconv as fc
from fastconv import datasets, models, nn, optim, plot, train

rng = np.random.default_rng(0)
digits = datasets.mnist5k()
learned, held_out = datasets.stratified_split(digits.y, 1000, rng)
x = digits.x[:, None].astype(np.float32) / 255
print(x[learned].shape, x[held_out].shape)

model = models.LeNet(rng=rng)
print(sum(parameter.size for parameter in model.parameters()))

# %%
# 1,000 digits are held out: the network never learns from them, so that they show whether it understood
# something or only knows its examples by heart. Before training it guesses, and one of ten guesses is
# right.

loss = nn.CrossEntropyLoss()
before = train.evaluate(model, loss, (x[held_out], digits.y[held_out]))
print(f"{before.loss:.3f} {before.accuracy:.1%}")

# %%
# One number says how far the network is from what is wanted: the *loss*. Cross-entropy is minus the
# logarithm of the probability that the network gave to the right answer: 0 if it was sure of it, and the
# larger the less it believed in it. Ten equal probabilities give log 10 = 2.303.
#
# One step of training has three parts: compute the network's answers (forward) and the loss; compute the
# *gradient*, that is for each parameter, how much the loss grows if it grows (backward); and move all
# parameters a little against their gradients. By hand, with 64 digits:

first = learned[:64]
output = model(x[first])
print(f"{loss(output, digits.y[first]):.4f}")

model.zero_grad()
model.backward(loss.backward())
for parameter in model.parameters():
    parameter.data -= 0.1 * parameter.grad
print(f"{loss(model(x[first]), digits.y[first]):.4f}")

# %%
# The loss of these digits became smaller. Training repeats that with always other *minibatches* of 64
# digits; when each digit had its turn, an *epoch* is over. An optimizer such as Adam chooses the length of
# the steps. `fastconv.train.fit` is this loop.

history = train.fit(
    model,
    loss,
    optim.Adam(model.parameters(), lr=2e-3),
    (x[learned], digits.y[learned]),
    (x[held_out], digits.y[held_out]),
    epochs=6,
    rng=rng,
    progress=False,
)
for epoch, (trained, validated) in enumerate(zip(history.loss, history.validation_loss, strict=True), 1):
    print(f"{epoch}: {trained:.3f} {validated:.3f}")

# %%
# The loss over the epochs: circles for the digits that it learns from, squares for those held out. When the
# circles go on falling but the squares rise, the network learns its examples by heart; that is called
# *overfitting*.

epochs = np.arange(1, len(history.loss) + 1)
figure = Figure(figsize=(5, 3.2), layout="constrained")
axes = figure.subplots()
axes.plot(epochs, history.loss, "o-", epochs, history.validation_loss, "s-")
axes.set(yscale="log")
axes.grid(alpha=0.3, which="both")
figure

# %%
# How many of the held-out digits does it read now?

after = train.evaluate(model, loss, (x[held_out], digits.y[held_out]))
print(f"{after.loss:.3f} {after.accuracy:.1%}")

# %%
# Rows are what a digit is, columns what it was read as: a *confusion matrix*. All that is off the diagonal
# are mistakes.

guesses = after.output.argmax(axis=1)
confusion = np.zeros((10, 10), int)
np.add.at(confusion, (digits.y[held_out], guesses), 1)
plot.numbers([confusion], marks=[np.eye(10, dtype=bool)])

# %%
# Some of the mistakes, with what the digit is and what it was read as.

wrong = np.flatnonzero(guesses != digits.y[held_out])[:12]
titles = [f"{digits.y[held_out][i]} → {guesses[i]}" for i in wrong]
plot.images(digits.x[held_out][wrong], titles, columns=6)

# %%
# And these are the six filters that the first layer found, with the feature maps that they make of a digit.
# Nobody told it to look for edges.

convolution = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
maps = fc.relu(convolution(x[2500:2501]))[0]
filters = convolution.weight.data[:, 0]
plot.images(
    [*(np.kron(table, np.ones((6, 6))) for table in filters), *np.pad(maps, ((0, 0), (1, 1), (1, 1)))],
    columns=6,
)
