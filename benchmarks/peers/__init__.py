"""The contest: one process per contestant, one file per contestant (`peer_*.py`).

A contestant's file imports NumPy and its own framework, nothing else, so that another interpreter
may run it. It has `version` and some of the others:

    version() -> str
    training(parameters, images, labels, threads, variant) -> step    step(i) -> loss of step i
    inference(parameters, images, threads, variant) -> forward        forward(i) -> logits
    convolution(job, arrays, threads, variant) -> {direction: (call, read)}
        call() -> result; read(result) -> an array
    network(job, threads, variant) -> {"step" or "answer": (call, read)}
    recipe(splits, threads, variant) -> train
        train(settings, seed) -> {"seconds", "test", "validation"}

`parameters` are the arrays of `network.parameter_shapes`, `images` is float32
[batches, N, 28, 28, 1], `labels` is int32 [batches, N]; call i takes batch i. A step ends when its
loss is a Python float and the parameters are updated; a forward when the logits are in memory.
`job` is `shapes.Convolution.as_job`, `arrays` are x, weight, bias and dy (`worker.conv_arrays`);
`read` brings a result into the order NHWC, or KH, KW, C, OC for a weight; it is not timed. Of a
network `job` has "what" ("step": a training step, or "answer"), "network", a name in `sizes`,
"folder", where `torch_export` has written it, and for an answer "batch"; a step gives its loss.
`splits` is `network.load_splits`, `settings` a recipe as a dict; seconds are those of the training
alone, test and validation the accuracies after it.
"""
