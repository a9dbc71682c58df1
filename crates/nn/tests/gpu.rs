//! A GPU computes what the processor computes: outputs and gradients of every operation, and of graphs shaped as this project's networks.
//!
//! Any adapter of Vulkan, Metal or DirectX 12 will do, software too (Debian's `mesa-vulkan-drivers`). Without one this says why it is
//! skipped, and succeeds. Numbers differ in the order of their sums: the tolerance is a share of the largest number.

use pupilla_nn::device::{self, DeviceChoice, DeviceError};
use pupilla_nn::{
    BatchNorm, Convolution, DepthwiseConvolution, Graph, MaxPool, Operation, Parameters, Role,
    SamePadding, Tensor, Value, Wanted,
};

/// Of an output, or of a gradient of one operation, relative to its largest number.
const TOLERANCE: f32 = 1e-3;

/// Of a whole network's gradient, relative to its length. Rounding decides now and then which pixel of a window is the largest, or on
/// which side of an activation's kink a number is; then a gradient takes another way. The processor's instruction sets differ from each
/// other as much.
const LENGTH_TOLERANCE: f64 = 1e-2;

const CPU: DeviceChoice = DeviceChoice::Cpu;
const GPU: DeviceChoice = DeviceChoice::Gpu(None);

fn main() {
    match device::choose(GPU) {
        Ok(chosen) => println!("on {}", chosen.name),
        Err(error @ DeviceError::NoGpu { .. }) => {
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    }
    let tests: [(&str, fn()); 12] = [
        ("convolutions_agree", convolutions_agree),
        (
            "transposed_convolutions_agree",
            transposed_convolutions_agree,
        ),
        ("poolings_agree", poolings_agree),
        ("batch_norms_agree", batch_norms_agree),
        ("the_other_operations_agree", the_other_operations_agree),
        ("large_convolutions_agree", large_convolutions_agree),
        ("patch_networks_agree", patch_networks_agree),
        (
            "networks_that_make_images_agree",
            networks_that_make_images_agree,
        ),
        ("pretrained_networks_agree", pretrained_networks_agree),
        (
            "wanted_values_come_in_the_order_asked_for",
            wanted_values_come_in_the_order_asked_for,
        ),
        (
            "changed_parameters_are_copied_anew",
            changed_parameters_are_copied_anew,
        ),
        ("what_goes_wrong_is_said", what_goes_wrong_is_said),
    ];
    // As the usual harness has it: words choose tests, options are not for this one.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    for (name, test) in tests.into_iter().filter(|test| wanted(test.0)) {
        let start = std::time::Instant::now();
        test();
        println!(
            "test {name} ... ok ({:.1} s)",
            start.elapsed().as_secs_f64()
        );
    }
}

/// What a piece of work gives on each device, the processor first.
fn on_both<T>(work: impl Fn() -> T) -> [T; 2] {
    [CPU, GPU].map(|choice| {
        device::choose(choice).unwrap();
        work()
    })
}

fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    assert!(scale > 0.0, "{what}: all 0");
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= TOLERANCE * scale,
            "{what}: {a}, not {b}, at {at} (largest {scale})"
        );
    }
}

fn assert_near_in_length(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let length = |values: &mut dyn Iterator<Item = f32>| {
        let squares: f64 = values.map(f64::from).map(|value| value * value).sum();
        squares.sqrt()
    };
    let whole = length(&mut expected.iter().copied());
    assert!(whole > 0.0, "{what}: all 0");
    let apart = length(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / whole;
    assert!(apart <= LENGTH_TOLERANCE, "{what}: {apart} apart");
}

/// Numbers that look random, between −1 and 1, none of which meet.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(shape: [usize; 4], seed: u64) -> Tensor {
    Tensor::new(numbers(shape.iter().product(), seed), shape)
}

/// Made up, weights so that maps stay as large as they are.
fn parameters(graph: &Graph) -> Parameters {
    let arrays = graph.parameters().into_iter().zip(10..);
    let arrays = arrays.map(|(of, seed)| {
        let mut values = numbers(of.count(), seed);
        for value in &mut values {
            *value = match of.role {
                Role::Weight => {
                    let fan_in: usize = of.shape[1..].iter().product();
                    *value * (6.0 / fan_in as f32).sqrt()
                }
                Role::Bias => 0.1 * *value,
                Role::Scale => 1.0 + 0.5 * *value,
            };
        }
        values
    });
    Parameters::new(arrays.collect())
}

/// Everything that the chosen device says about a graph, with names: output with and without a tape, what batch norm has seen, and the
/// gradients of a loss with a weight of its own for every output.
fn said(graph: &Graph, parameters: &Parameters, input: &Tensor) -> Vec<(String, Vec<f32>)> {
    let (plain, moments) = graph.observe(parameters, input);
    let tape = graph.record(parameters, input);
    let output = tape.output().clone();
    assert_eq!(plain.shape(), output.shape());
    let weights = tensor(output.shape(), 1);
    let gradients = tape.backward(weights.clone(), Wanted::ALL);
    let of_input = gradients.input.unwrap();
    assert_eq!(of_input.shape(), input.shape());
    let mut said = vec![
        ("output".to_string(), plain.into_values()),
        ("recorded output".to_string(), output.into_values()),
        ("input's gradient".to_string(), of_input.into_values()),
    ];
    for (index, gradient) in gradients.parameters.into_iter().enumerate() {
        said.push((format!("gradient {index}"), gradient));
    }
    for (index, moments) in moments.into_iter().enumerate() {
        let narrowed = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        said.push((format!("means {index}"), narrowed(moments.means)));
        said.push((format!("squares {index}"), narrowed(moments.squares)));
    }
    said
}

fn assert_agree(graph: &Graph, shape: [usize; 4], what: &str) {
    let parameters = parameters(graph);
    let input = tensor(shape, 0);
    let [expected, found] = on_both(|| said(graph, &parameters, &input));
    assert_eq!(found.len(), expected.len(), "{what}");
    let whole_network = graph.nodes().len() > 1;
    for ((name, expected), (_, found)) in expected.iter().zip(&found) {
        let what = format!("{what}, {name}");
        if whole_network && name.contains("gradient") {
            assert_near_in_length(found, expected, &what);
        } else {
            assert_near(found, expected, &what);
        }
    }
}

/// A graph of one operation.
fn assert_one_agrees(operation: Operation, shape: [usize; 4]) {
    let what = format!("{operation:?} of {shape:?}");
    assert_agree(&Graph::chain([operation]), shape, &what);
}

const SLOPES: [f32; 3] = [1.0, 0.0, 0.2];

/// A last row and column that no window reaches, now and then.
fn convolutions_agree() {
    for kernel in 1..6 {
        for stride in 1..4 {
            for padding in 0..3 {
                let of = Convolution {
                    stride,
                    padding,
                    bias: (kernel + padding) % 2 == 0,
                    slope: SLOPES[(kernel + stride) % 3],
                    ..Convolution::new([1 + padding, 2 + stride], kernel)
                };
                let sides = [kernel + 2 * stride, kernel + 5];
                let shape = [2, of.channels[0], sides[0], sides[1]];
                assert_one_agrees(Operation::Convolution(of), shape);
            }
        }
    }
}

fn transposed_convolutions_agree() {
    // Size, kernel, stride, padding; the last two are a decoder's first and usual layers.
    for (size, kernel, stride, padding) in [
        ([5, 7], 3, 1, 1),
        ([3, 4], 5, 3, 2),
        ([2, 3], 2, 2, 0),
        ([1, 1], 8, 1, 0),
        ([9, 6], 4, 2, 1),
    ] {
        for (slope, bias) in SLOPES.into_iter().zip([true, false, true]) {
            let of = Convolution {
                stride,
                padding,
                bias,
                slope,
                ..Convolution::new([3, 4], kernel)
            };
            let shape = [2, 3, size[0], size[1]];
            assert_one_agrees(Operation::TransposedConvolution(of), shape);
        }
    }
}

fn poolings_agree() {
    for size in 1..4 {
        for stride in 1..=size {
            for padding in 0..size.min(2) {
                for partial in [false, true] {
                    for sides in [[3, 4], [7, 8], [9, 6]] {
                        let pool = MaxPool {
                            size,
                            stride,
                            padding,
                            partial,
                        };
                        assert_one_agrees(Operation::MaxPool(pool), [2, 3, sides[0], sides[1]]);
                    }
                }
            }
        }
    }
    for sides in [[3, 3], [7, 5], [9, 13]] {
        assert_one_agrees(Operation::MaxPoolFragments, [2, 3, sides[0], sides[1]]);
        assert_one_agrees(Operation::Weave, [8, 3, sides[0], sides[1]]);
    }
}

fn norm(channels: usize, affine: bool, slope: f32) -> Operation {
    Operation::BatchNorm(BatchNorm {
        channels,
        epsilon: 1e-3,
        affine,
        slope,
    })
}

fn batch_norms_agree() {
    for slope in SLOPES {
        for affine in [false, true] {
            for shape in [[3, 1, 1, 2], [2, 5, 7, 4], [3, 4, 17, 31]] {
                assert_one_agrees(norm(shape[1], affine, slope), shape);
            }
        }
    }
    // Of a mean far from 0 the deviation is what matters.
    let mut input = tensor([2, 3, 9, 9], 0);
    for value in input.values_mut() {
        *value += 100.0;
    }
    let graph = Graph::chain([norm(3, false, 1.0)]);
    let [expected, found] = on_both(|| graph.run(&Parameters::default(), &input));
    assert_near(found.values(), expected.values(), "a mean far from 0");
}

fn the_other_operations_agree() {
    let convolution = |slope| {
        Operation::Convolution(Convolution {
            slope,
            padding: 1,
            ..Convolution::new([3; 2], 3)
        })
    };
    for slope in SLOPES {
        let mut graph = Graph::default();
        let first = graph.add(convolution(0.2), &[Graph::INPUT]);
        let second = graph.add(convolution(1.0), &[first]);
        // What several read gets the sum of their gradients.
        let sum = graph.add(Operation::Add { slope }, &[second, Graph::INPUT]);
        let joined = graph.add(Operation::Concatenate, &[first, sum, second]);
        let shape = [2, 3, 6, 5];
        assert_agree(&graph, shape, "sums and concatenations");
        graph.add(Operation::Sigmoid, &[joined]);
        graph.add(Operation::GlobalAverage, &[graph.output()]);
        assert_agree(&graph, shape, "sums, concatenations, sigmoids, averages");
    }
    assert_one_agrees(Operation::Sigmoid, [2, 3, 5, 4]);
    assert_one_agrees(Operation::GlobalAverage, [2, 3, 5, 4]);
    // Nodes that nothing leads from have gradients all the same.
    let mut graph = Graph::default();
    graph.add(convolution(1.0), &[Graph::INPUT]);
    graph.add(Operation::Sigmoid, &[Graph::INPUT]);
    let parameters = parameters(&graph);
    let input = tensor([1, 3, 4, 4], 0);
    let [expected, found] = on_both(|| {
        let tape = graph.record(&parameters, &input);
        let gradient = tape.output().clone();
        tape.backward(gradient, Wanted::PARAMETERS)
    });
    assert_eq!(found, expected);
    assert_eq!(found.parameters, [vec![0.0; 81], vec![0.0; 3]]);
}

/// Beyond each limit of the matrix product: columns in several pieces, rows longer than a piece, more columns than may stay, and more
/// gradients of weights than may.
///
/// Mesa's software ends a kernel's loops after 65,535 rounds, and Burn's own convolution has one for each output: there must be few.
fn large_convolutions_agree() {
    for (channels, kernel, shape) in [
        ([128, 2], 5, [1, 128, 80, 80]),
        ([128, 2], 5, [1, 128, 6, 5300]),
        ([32, 1], 32, [1, 32, 162, 161]),
        ([164, 64], 5, [64, 164, 5, 5]),
    ] {
        let of = Convolution {
            slope: 0.2,
            ..Convolution::new(channels, kernel)
        };
        assert_one_agrees(Operation::Convolution(of), shape);
    }
}

/// A layer of a patch network.
#[derive(Clone, Copy, PartialEq)]
enum Layer {
    /// Side of the kernel, output channels.
    Convolution(usize, usize),
    Pooling,
}

/// The layers for patches of 33 and 65 pixels.
fn patch_layers() -> [(usize, Vec<Layer>); 2] {
    use Layer::{Convolution as Conv, Pooling};
    let small = [
        Conv(5, 128),
        Pooling,
        Conv(5, 256),
        Pooling,
        Conv(2, 256),
        Conv(4, 128),
    ];
    let large = [
        Conv(5, 128),
        Pooling,
        Conv(5, 128),
        Pooling,
        Conv(5, 128),
        Pooling,
        Conv(4, 256),
        Conv(1, 128),
    ];
    [(33, small.to_vec()), (65, large.to_vec())]
}

fn patch_network(layers: &[Layer], dense: bool, normalised: bool) -> Graph {
    let mut channels = 3;
    let mut operations = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        match *layer {
            Layer::Pooling if dense => operations.push(Operation::MaxPoolFragments),
            Layer::Pooling => operations.push(Operation::MaxPool(MaxPool::HALVING)),
            Layer::Convolution(kernel, out) => {
                if normalised && index > 0 {
                    operations.push(norm(channels, false, 1.0));
                }
                let last = index + 1 == layers.len();
                operations.push(Operation::Convolution(Convolution {
                    slope: if last { 1.0 } else { 0.005 },
                    ..Convolution::new([channels, out], kernel)
                }));
                channels = out;
            }
        }
    }
    if dense {
        let poolings = layers.iter().filter(|layer| **layer == Layer::Pooling);
        operations.extend(poolings.map(|_| Operation::Weave));
    }
    Graph::chain(operations)
}

fn patch_networks_agree() {
    for (side, layers) in patch_layers() {
        let (span, stride) = if side == 33 { (32, 4) } else { (60, 8) };
        for dense in [false, true] {
            for normalised in [false, true] {
                let graph = patch_network(&layers, dense, normalised);
                // The dense method needs as many positions as its stride divides; on the grid the last rows are cut off.
                let (batch, side_of_input) = if dense {
                    (1, stride + span - 1)
                } else {
                    (2, side + 2 * stride + 1)
                };
                let what = format!("p = {side}, dense {dense}, normalised {normalised}");
                assert_agree(&graph, [batch, 3, side_of_input, side_of_input], &what);
            }
        }
    }
}

/// Kernel, stride and padding of a layer that halves a map, of one that keeps its size, and of one that makes it a number.
const HALVING: [usize; 3] = [4, 2, 1];
const KEEPING: [usize; 3] = [3, 1, 1];
const WHOLE: [usize; 3] = [4, 1, 0];

fn shaped(channels: [usize; 2], [kernel, stride, padding]: [usize; 3]) -> Convolution {
    Convolution {
        stride,
        padding,
        slope: 0.2,
        ..Convolution::new(channels, kernel)
    }
}

fn networks_that_make_images_agree() {
    use Operation::{Convolution as Down, TransposedConvolution as Up};
    let linear = |of| Convolution { slope: 1.0, ..of };
    let autoencoder = Graph::chain([
        Down(shaped([3, 32], HALVING)),
        Down(shaped([32, 32], KEEPING)),
        Down(shaped([32, 64], HALVING)),
        Down(shaped([64, 64], HALVING)),
        Down(linear(shaped([64, 20], WHOLE))),
        Up(shaped([20, 64], WHOLE)),
        Up(shaped([64, 64], HALVING)),
        Up(shaped([64, 32], HALVING)),
        Up(shaped([32, 32], KEEPING)),
        Up(linear(shaped([32, 3], HALVING))),
    ]);
    assert_agree(&autoencoder, [2, 3, 32, 32], "an autoencoder");

    // Batch norm has the bias and the activation.
    let bare = |of| Convolution {
        bias: false,
        ..linear(of)
    };
    let discriminator = Graph::chain([
        Down(shaped([3, 32], HALVING)),
        Down(bare(shaped([32, 64], HALVING))),
        norm(64, true, 0.2),
        Down(bare(shaped([64, 128], HALVING))),
        norm(128, true, 0.2),
        Down(linear(shaped([128, 1], WHOLE))),
    ]);
    assert_agree(&discriminator, [4, 3, 32, 32], "a discriminator");
    let generator = Graph::chain([
        Up(bare(shaped([8, 128], WHOLE))),
        norm(128, true, 0.0),
        Up(bare(shaped([128, 64], HALVING))),
        norm(64, true, 0.0),
        Up(bare(shaped([64, 32], HALVING))),
        norm(32, true, 0.0),
        Up(linear(shaped([32, 3], HALVING))),
        Operation::Sigmoid,
    ]);
    assert_agree(&generator, [4, 8, 1, 1], "a generator");
}

fn pretrained_networks_agree() {
    let convolution = |channels, form: [usize; 3], slope| {
        Operation::Convolution(Convolution {
            slope,
            ..shaped(channels, form)
        })
    };
    let pool = |padding, partial| {
        Operation::MaxPool(MaxPool {
            size: 3,
            stride: 2,
            padding,
            partial,
        })
    };
    // ResNet's beginning, and a block that halves the map.
    let mut resnet = Graph::default();
    let stem = resnet.add(convolution([3, 64], [7, 2, 3], 0.0), &[Graph::INPUT]);
    let stem = resnet.add(pool(1, false), &[stem]);
    let first = resnet.add(convolution([64, 128], [3, 2, 1], 0.0), &[stem]);
    let second = resnet.add(convolution([128, 128], [3, 1, 1], 1.0), &[first]);
    let short = resnet.add(convolution([64, 128], [1, 2, 0], 1.0), &[stem]);
    resnet.add(Operation::Add { slope: 0.0 }, &[second, short]);
    assert_agree(&resnet, [1, 3, 65, 65], "a residual block");
    // SqueezeNet's beginning, and a fire module.
    let mut squeezenet = Graph::default();
    let stem = squeezenet.add(convolution([3, 64], [3, 2, 0], 0.0), &[Graph::INPUT]);
    let stem = squeezenet.add(pool(0, true), &[stem]);
    let squeezed = squeezenet.add(convolution([64, 16], [1, 1, 0], 0.0), &[stem]);
    let narrow = squeezenet.add(convolution([16, 64], [1, 1, 0], 0.0), &[squeezed]);
    let wide = squeezenet.add(convolution([16, 64], [3, 1, 1], 0.0), &[squeezed]);
    let fire = squeezenet.add(Operation::Concatenate, &[narrow, wide]);
    let classes = squeezenet.add(convolution([128, 10], [1, 1, 0], 0.0), &[fire]);
    squeezenet.add(Operation::GlobalAverage, &[classes]);
    assert_agree(&squeezenet, [1, 3, 65, 64], "a fire module");
    // EfficientNet-Lite's beginning, and a block that halves the map; a low ceiling is reached.
    let [window, halving] = [1, 2].map(|stride| SamePadding { kernel: 5, stride });
    let limited = |channels, kernel, stride| {
        Operation::Convolution(Convolution {
            stride,
            slope: 0.0,
            ceiling: 0.5,
            ..Convolution::new(channels, kernel)
        })
    };
    for (size, window) in [([33, 36], window), ([33, 36], halving), ([7, 3], halving)] {
        let depthwise = DepthwiseConvolution {
            channels: 48,
            window,
            slope: 0.0,
            ceiling: 0.5,
        };
        let lite = Graph::chain([
            Operation::SamePadding(halving),
            limited([3, 16], 5, 2),
            limited([16, 48], 1, 1),
            Operation::DepthwiseConvolution(depthwise),
            convolution([48, 24], [1, 1, 0], 1.0),
        ]);
        assert_agree(
            &lite,
            [2, 3, size[0], size[1]],
            "an inverted residual block",
        );
    }
}

fn wanted_values_come_in_the_order_asked_for() {
    let convolution = Operation::Convolution(Convolution::new([2, 2], 1));
    let mut graph = Graph::default();
    let first = graph.add(convolution, &[Graph::INPUT]);
    let pooled = graph.add(Operation::MaxPool(MaxPool::HALVING), &[first]);
    // What nobody wants is not computed: its weight would not fit.
    graph.add(
        Operation::Convolution(Convolution::new([9, 1], 1)),
        &[pooled],
    );
    let parameters = parameters(&graph);
    let input = tensor([1, 2, 4, 4], 3);
    let wanted: [Value; 4] = [pooled, first, Graph::INPUT, first];
    let [expected, found] = on_both(|| graph.outputs(&parameters, &input, &wanted));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.shape(), expected.shape());
        assert_near(found.values(), expected.values(), "a wanted value");
    }
    assert_eq!(found[2], input);
    assert!(graph.outputs(&parameters, &input, &[]).is_empty());
    // What is not wanted of the gradients is left out.
    let graph = graph.until(pooled);
    let gradients = |wanted| {
        let tape = graph.record(&parameters, &input);
        tape.backward(tensor([1, 2, 2, 2], 4), wanted)
    };
    let all = gradients(Wanted::ALL);
    let alone = gradients(Wanted::PARAMETERS);
    assert_eq!((alone.parameters, alone.input), (all.parameters, None));
    let alone = gradients(Wanted::INPUT);
    assert!(alone.parameters.is_empty() && alone.input == all.input);
}

fn changed_parameters_are_copied_anew() {
    let graph = Graph::chain([Operation::Convolution(Convolution::new([1, 1], 1))]);
    let input = Tensor::new(vec![1.0, 2.0], [1, 1, 1, 2]);
    device::choose(GPU).unwrap();
    let mut parameters = Parameters::new(vec![vec![3.0], vec![0.5]]);
    assert_eq!(graph.run(&parameters, &input).values(), [3.5, 6.5]);
    let before = parameters.clone();
    parameters.arrays_mut()[0][0] = 4.0;
    assert_eq!(graph.run(&parameters, &input).values(), [4.5, 8.5]);
    parameters.arrays_mut()[1][0] = 0.0;
    assert_eq!(graph.run(&parameters, &input).values(), [4.0, 8.0]);
    assert_eq!(graph.run(&before, &input).values(), [3.5, 6.5]);
    // Another thread has the same device.
    let elsewhere = std::thread::scope(|scope| {
        let run = scope.spawn(|| graph.run(&before, &input));
        run.join().unwrap()
    });
    assert_eq!(elsewhere.values(), [3.5, 6.5]);
}

fn what_goes_wrong_is_said() {
    match device::choose(DeviceChoice::Gpu(Some(99))) {
        Err(DeviceError::NoSuchGpu {
            wanted: 99,
            available,
        }) => {
            assert!(available[0].starts_with("gpu:0 ("), "{available:?}");
        }
        other => panic!("{other:?}"),
    }
    // Software that passes for a GPU is only taken if it is asked for.
    let automatic = device::choose(DeviceChoice::Auto).unwrap();
    match automatic.no_gpu {
        None => assert!(device::is_gpu() && automatic.name.ends_with("(gpu:0)")),
        Some(DeviceError::NoGpu { only_software }) => {
            assert!(only_software && !device::is_gpu());
            assert_eq!(automatic.name, "the processor");
        }
        Some(other) => panic!("{other}"),
    }
    device::choose(GPU).unwrap();
    assert!(device::is_gpu());
    assert_eq!(device::guarded(|| 7), Ok(7));
    match device::guarded(|| panic!("a bug")) {
        Err(DeviceError::Failed { reason }) => {
            assert!(
                reason.contains("a bug") && reason.contains("gpu.rs"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    // What does not fit is said before anything is computed.
    let narrow = Graph::chain([Operation::Convolution(Convolution::new([1, 1], 3))]);
    let of_narrow = parameters(&narrow);
    for shape in [[1, 2, 4, 4], [1, 1, 4, 2]] {
        let found = device::guarded(|| narrow.run(&of_narrow, &tensor(shape, 0)));
        assert!(
            matches!(found, Err(DeviceError::Failed { .. })),
            "{found:?}"
        );
    }
    // More than any card has: a pixel of each of 2^20 maps of 2^20 pixels is read.
    let side = 1 << 20;
    let greedy = Graph::chain([
        Operation::Convolution(Convolution {
            bias: false,
            ..Convolution::new([1, side], 1)
        }),
        Operation::MaxPool(MaxPool {
            size: 1,
            stride: side,
            padding: 0,
            partial: false,
        }),
    ]);
    let of_greedy = parameters(&greedy);
    let found = device::guarded(|| greedy.run(&of_greedy, &tensor([1, 1, 1, side], 0)));
    assert!(
        matches!(found, Err(DeviceError::OutOfMemory { .. })),
        "{found:?}"
    );
    // The device works on.
    let found = device::guarded(|| narrow.run(&of_narrow, &tensor([1, 1, 4, 4], 0)));
    assert_eq!(found.unwrap().shape(), [1, 1, 2, 2]);
}
