//! Every operation and its gradients against a slow, obvious twin in `f64`, on random shapes; the twin's gradients are finite
//! differences.

mod pytorch;
mod slow;

use proptest::prelude::*;
use pupilla_nn::{
    BatchNorm, Convolution, Cpu, DepthwiseConvolution, Engine, Graph, MaxPool, Operation,
    Parameters, SamePadding, Tensor, Wanted,
};

/// Numbers that look random, between −1 and 1, none of which meet.
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn parameters(graph: &Graph, seed: u64) -> Parameters {
    let arrays = graph.parameters().into_iter().enumerate();
    let arrays = arrays.map(|(index, of)| numbers(of.count(), seed + 10 + index as u64));
    Parameters::new(arrays.collect())
}

/// Largest difference, relative to the largest number that is expected (or to 1, if all are small).
fn error(found: &[f32], expected: &[f64]) -> f64 {
    let expected: Vec<_> = expected.iter().map(|&value| [value; 2]).collect();
    error_of_ranges(found, &expected)
}

/// The same where ranges are expected.
fn error_of_ranges(found: &[f32], expected: &[[f64; 2]]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let ends = expected.iter().flatten();
    let largest = ends.fold(1.0f64, |max, x| max.max(x.abs()));
    let pairs = found.iter().zip(expected);
    let apart = pairs.map(|(&found, [least, most])| {
        let found = f64::from(found);
        assert!(found.is_finite());
        (least - found).max(found - most).max(0.0)
    });
    apart.fold(0.0, f64::max) / largest
}

/// Compares output and gradients of a graph with its slow twin's.
fn check(graph: &Graph, shape: [usize; 4], seed: u64) {
    let parameters = parameters(graph, seed);
    let input = Tensor::new(numbers(shape.iter().product(), seed), shape);
    let tape = Cpu.record(graph, &parameters, &input);
    let slow = slow::Run::new(graph, &parameters, &input);
    assert_eq!(tape.output().shape(), slow.shape(), "{graph:?}");
    let apart = error(tape.output().values(), slow.output());
    assert!(apart < 1e-4, "output of {graph:?}: {apart}");
    // Without a tape the same numbers come out.
    let plain = Cpu.outputs(graph, &parameters, &input, &[graph.output()], None, &|| {
        true
    });
    assert_eq!(&plain.unwrap()[0], tape.output());

    let weights = numbers(tape.output().values().len(), seed + 1);
    let gradient = Tensor::new(weights.clone(), tape.output().shape());
    let gradients = tape.backward(gradient, Wanted::ALL);
    let (of_input, of_parameters) = slow.gradients(&weights);
    let found = gradients.input.unwrap();
    let apart = error_of_ranges(found.values(), &of_input);
    assert!(apart < 1e-3, "input's gradient of {graph:?}: {apart}");
    assert_eq!(gradients.parameters.len(), of_parameters.len());
    for (index, (found, expected)) in gradients.parameters.iter().zip(&of_parameters).enumerate() {
        let apart = error_of_ranges(found, expected);
        assert!(apart < 1e-3, "gradient {index} of {graph:?}: {apart}");
    }
    // What is not wanted is left out, and changes nothing of the rest.
    let again = |wanted| {
        let tape = Cpu.record(graph, &parameters, &input);
        let gradient = Tensor::new(weights.clone(), tape.output().shape());
        tape.backward(gradient, wanted)
    };
    let alone = again(Wanted::PARAMETERS);
    assert_eq!(
        (alone.parameters, alone.input),
        (gradients.parameters, None)
    );
    let alone = again(Wanted::INPUT);
    assert!(alone.parameters.is_empty() && alone.input == Some(found));
}

fn ceilings() -> impl Strategy<Value = f32> {
    prop_oneof![Just(f32::INFINITY), Just(0.25)]
}

fn slopes() -> impl Strategy<Value = f32> {
    prop_oneof![Just(1.0f32), Just(0.0), Just(0.2)]
}

fn norm(channels: usize, affine: bool, slope: f32) -> Operation {
    Operation::BatchNorm(BatchNorm {
        channels,
        epsilon: 1e-3,
        affine,
        slope,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn convolution(
        channels in proptest::array::uniform2(1usize..4), kernel in 1usize..5, stride in 1usize..3, padding in 0usize..3,
        bias: bool, slope in slopes(), ceiling in ceilings(), batch in 1usize..3, room in proptest::array::uniform2(0usize..5), seed: u32,
    ) {
        let shape = Convolution { channels, kernel, stride, padding, bias, slope, ceiling };
        let sides = room.map(|room| kernel + room);
        let input = [batch, channels[0], sides[0], sides[1]];
        check(&Graph::chain([Operation::Convolution(shape)]), input, seed.into());
    }

    #[test]
    fn transposed_convolution(
        channels in proptest::array::uniform2(1usize..4), kernel in 1usize..5, stride in 1usize..3, padding in 0usize..2,
        bias: bool, slope in slopes(), ceiling in ceilings(), batch in 1usize..3, size in proptest::array::uniform2(2usize..5), seed: u32,
    ) {
        let shape = Convolution { channels, kernel: kernel + 1, stride, padding, bias, slope, ceiling };
        let input = [batch, channels[0], size[0], size[1]];
        check(&Graph::chain([Operation::TransposedConvolution(shape)]), input, seed.into());
    }

    #[test]
    fn depthwise_convolution_and_same_padding(
        channels in 1usize..4, kernel in 1usize..6, stride in 1usize..4, slope in slopes(), ceiling in ceilings(),
        batch in 1usize..3, size in proptest::array::uniform2(1usize..7), seed: u32,
    ) {
        let window = SamePadding { kernel, stride };
        let shape = [batch, channels, size[0], size[1]];
        let depthwise = DepthwiseConvolution { channels, window, slope, ceiling };
        check(&Graph::chain([Operation::DepthwiseConvolution(depthwise)]), shape, seed.into());
        // A convolution of the padded map is as large as a depthwise one of the map.
        let convolution = Convolution { stride, slope, ceiling, ..Convolution::new([channels, 2], kernel) };
        let graph = Graph::chain([Operation::SamePadding(window), Operation::Convolution(convolution)]);
        check(&graph, shape, seed.into());
    }

    #[test]
    fn convolution_with_max_pooling(
        channels in proptest::array::uniform2(1usize..4), kernel in 1usize..5, padding in 0usize..2, slope in slopes(), ceiling in ceilings(),
        size in proptest::array::uniform2(2usize..7), seed: u32,
    ) {
        let shape = Convolution { padding, slope, ceiling, ..Convolution::new(channels, kernel) };
        let sides = size.map(|size| size + kernel - 1);
        let graph = Graph::chain([Operation::Convolution(shape), Operation::MaxPool(MaxPool::HALVING)]);
        check(&graph, [2, channels[0], sides[0], sides[1]], seed.into());
    }

    #[test]
    fn max_pooling(
        size in 1usize..4, stride in 1usize..4, padding in 0usize..2, partial: bool,
        sides in proptest::array::uniform2(3usize..9), seed: u32,
    ) {
        let padding = padding.min(size - 1);
        let pool = MaxPool { size, stride: stride.min(size), padding, partial };
        check(&Graph::chain([Operation::MaxPool(pool)]), [2, 2, sides[0], sides[1]], seed.into());
    }

    #[test]
    fn fragments_and_their_weaving(half in proptest::array::uniform2(1usize..4), channels in 1usize..4, seed: u32) {
        let sides = half.map(|half| 2 * half + 1);
        let split = Operation::MaxPoolFragments;
        check(&Graph::chain([split]), [2, channels, sides[0], sides[1]], seed.into());
        check(&Graph::chain([Operation::Weave]), [8, channels, half[0], half[1]], seed.into());
        check(&Graph::chain([split, Operation::Weave]), [1, channels, sides[0], sides[1]], seed.into());
    }

    #[test]
    fn batch_norm(
        channels in 1usize..4, affine: bool, slope in slopes(), sides in proptest::array::uniform2(1usize..4), seed: u32,
    ) {
        // Of two numbers or fewer, the deviation is a kink.
        check(&Graph::chain([norm(channels, affine, slope)]), [3, channels, sides[0], sides[1]], seed.into());
    }

    #[test]
    fn batch_norm_within_the_weights(
        channels in proptest::array::uniform3(1usize..4), kernel in 1usize..4, bias: bool, slope in slopes(), pooled: bool, seed: u32,
    ) {
        let first = Convolution { slope: 0.2, ..Convolution::new([channels[0], channels[1]], 2) };
        let second = Convolution { bias, slope, ..Convolution::new([channels[1], channels[2]], kernel) };
        let mut graph = Graph::chain([
            Operation::Convolution(first), norm(channels[1], false, 1.0), Operation::Convolution(second),
        ]);
        if pooled {
            graph.add(Operation::MaxPool(MaxPool::HALVING), &[graph.output()]);
        }
        check(&graph, [3, channels[0], kernel + 3, kernel + 4], seed.into());
    }

    #[test]
    fn sums_concatenations_averages_and_sigmoids(channels in 1usize..4, slope in slopes(), seed: u32) {
        let convolution = |slope| Operation::Convolution(Convolution { slope, padding: 1, ..Convolution::new([channels; 2], 3) });
        let mut graph = Graph::default();
        let first = graph.add(convolution(0.2), &[Graph::INPUT]);
        let second = graph.add(convolution(1.0), &[first]);
        // What several read gets the sum of their gradients.
        let sum = graph.add(Operation::Add { slope }, &[second, Graph::INPUT]);
        let joined = graph.add(Operation::Concatenate, &[first, sum, second]);
        graph.add(Operation::Sigmoid, &[joined]);
        let shape = [2, channels, 4, 3];
        check(&graph, shape, seed.into());
        graph.add(Operation::GlobalAverage, &[graph.output()]);
        check(&graph, shape, seed.into());
    }
}

#[test]
fn wanted_values_come_in_the_order_asked_for() {
    let convolution = Operation::Convolution(Convolution::new([2, 2], 1));
    let mut graph = Graph::default();
    let first = graph.add(convolution, &[Graph::INPUT]);
    let pooled = graph.add(Operation::MaxPool(MaxPool::HALVING), &[first]);
    let parameters = parameters(&graph, 3);
    let input = Tensor::new(numbers(32, 1), [1, 2, 4, 4]);
    let wanted = [pooled, first, Graph::INPUT, first];
    let values = Cpu
        .outputs(&graph, &parameters, &input, &wanted, None, &|| true)
        .unwrap();
    let alone = |value| {
        Cpu.outputs(&graph, &parameters, &input, &[value], None, &|| true)
            .unwrap()
            .remove(0)
    };
    assert_eq!(values, wanted.map(alone));
    assert_eq!(values[2], input);
}

#[test]
fn folded_batch_norm_computes_what_it_did_on_its_batch() {
    let down = |channels, bias| Convolution {
        bias,
        slope: 1.0,
        ..Convolution::new(channels, 3)
    };
    let graphs = [
        // As a discriminator and a generator have it.
        Graph::chain([
            Operation::Convolution(down([2, 4], false)),
            norm(4, true, 0.2),
            Operation::TransposedConvolution(down([4, 3], false)),
            norm(3, true, 0.0),
            Operation::Convolution(down([3, 2], true)),
        ]),
        // As a patch network in training has it.
        Graph::chain([
            Operation::Convolution(Convolution {
                slope: 0.005,
                ..down([2, 4], true)
            }),
            Operation::MaxPool(MaxPool::HALVING),
            norm(4, false, 1.0),
            Operation::Convolution(down([4, 3], false)),
        ]),
    ];
    for graph in graphs {
        let parameters = parameters(&graph, 5);
        let input = Tensor::new(numbers(3 * 2 * 100, 6), [3, 2, 10, 10]);
        let (expected, moments) = graph.observe(&parameters, &input);
        let norms = graph.nodes().iter();
        let norms = norms.filter(|node| matches!(node.operation, Operation::BatchNorm(_)));
        assert_eq!(moments.len(), norms.count());
        let mut statistics = pupilla_nn::batch_norm::Statistics::default();
        statistics.add(moments.clone());
        statistics.add(moments);
        let (folded, parameters) = pupilla_nn::batch_norm::fold(&graph, &parameters, &statistics);
        let norms = folded.nodes().iter();
        assert!(
            norms
                .into_iter()
                .all(|node| !matches!(node.operation, Operation::BatchNorm(_)))
        );
        let found = folded.run(&parameters, &input);
        let expected: Vec<f64> = expected.values().iter().map(|&x| x.into()).collect();
        assert!(error(found.values(), &expected) < 1e-5);
    }
}
