//! The passes of one convolution by name, on made-up data.

use pupilla_conv::{
    Conv2d, bias_gradient, forward, forward_max_pool, input_gradient, weight_gradient,
};

pub struct Problem {
    shape: Conv2d,
    input: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    output: Vec<f32>,
    input_gradient: Vec<f32>,
    weight_gradient: Vec<f32>,
    bias_gradient: Vec<f32>,
    winners: Vec<u8>,
}

impl Problem {
    pub fn new(shape: Conv2d) -> Self {
        let values = |len: usize| (0..len).map(|i| ((i * 7919) % 1999) as f32 / 999.5 - 1.0);
        Self {
            shape,
            input: values(shape.input_len()).collect(),
            weight: values(shape.weight_len()).collect(),
            bias: values(shape.out_channels).collect(),
            output: values(shape.output_len()).collect(),
            input_gradient: vec![0.0; shape.input_len()],
            weight_gradient: vec![0.0; shape.weight_len()],
            bias_gradient: vec![0.0; shape.out_channels],
            winners: vec![0; shape.output_len()],
        }
    }

    /// Runs `forward`, `forward_max_pool`, `input_gradient`, `weight_gradient` or `bias_gradient`.
    pub fn run(&mut self, pass: &str) {
        let shape = &self.shape;
        match pass {
            "forward" => forward(
                shape,
                &self.input,
                &self.weight,
                Some(&self.bias),
                &mut self.output,
            ),
            "forward_max_pool" => {
                let pooled = self.output.len() / shape.output_area()
                    * (shape.output_size()[0] / 2)
                    * (shape.output_size()[1] / 2);
                forward_max_pool(
                    shape,
                    &self.input,
                    &self.weight,
                    Some(&self.bias),
                    5e-3,
                    &mut self.output[..pooled],
                    Some(&mut self.winners[..pooled]),
                );
            }
            "input_gradient" => {
                input_gradient(shape, &self.output, &self.weight, &mut self.input_gradient)
            }
            "weight_gradient" => {
                weight_gradient(shape, &self.input, &self.output, &mut self.weight_gradient)
            }
            "bias_gradient" => bias_gradient(shape, &self.output, &mut self.bias_gradient),
            _ => panic!("no pass is called {pass}"),
        }
    }
}
