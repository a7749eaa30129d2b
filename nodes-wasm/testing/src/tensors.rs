//! Every tensor operation that the stock nodes do not use, on numbers whose answer is plain to see.

use vivarium_node::error::ErrorKind;
use vivarium_node::prelude::*;
use vivarium_node::tensor::{Activation, ConvGeometry, RandomGenerator};

/// Runs the operations and says how many answered as they should; fails with the first that did not.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestTensorOps {}

impl Run for TestTensorOps {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let mut checks = Checks(0);
        products(&mut checks)?;
        layers(&mut checks)?;
        orders(&mut checks)?;
        arrangements(&mut checks)?;
        crate::pictures::statistics(&mut checks)?;
        crate::pictures::volumes(&mut checks)?;
        crate::pictures::filters(&mut checks)?;
        crate::pictures::colors(&mut checks)?;
        refusals(&mut checks)?;
        Ok(Ui::text(format!("{} answers", checks.0)))
    }
}

pub(crate) struct Checks(usize);

impl Checks {
    pub(crate) fn same(&mut self, name: &str, tensor: &Tensor, shape: &[u64], wanted: &[f32]) -> Result<()> {
        let (found_shape, found) = (tensor.shape()?, tensor.read_f32()?);
        let near = found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4);
        if found_shape != shape || !near {
            let message = format!("{name} answered {found:?} of {found_shape:?}, not {wanted:?} of {shape:?}");
            return Err(Error::new(ErrorKind::Failed, message));
        }
        self.0 += 1;
        Ok(())
    }

    fn refused(&mut self, name: &str, kind: ErrorKind, tensor: Tensor) -> Result<()> {
        match tensor.check() {
            Err(error) if error.kind == kind => {
                self.0 += 1;
                Ok(())
            }
            Err(error) => {
                Err(Error::new(ErrorKind::Failed, format!("{name} was refused otherwise: {}", error.message)))
            }
            Ok(_) => Err(Error::new(ErrorKind::Failed, format!("{name} was not refused"))),
        }
    }
}

pub(crate) fn counted(shape: &[u64]) -> Tensor {
    let signed: Vec<i64> = shape.iter().map(|length| *length as i64).collect();
    Tensor::arange(0.0, shape.iter().product::<u64>() as f64, 1.0).reshape(signed)
}

fn whole(shape: &[u64], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape, values).cast(Dtype::Int64)
}

fn products(checks: &mut Checks) -> Result<()> {
    let (a, b) = (counted(&[2, 2]), Tensor::from_f32([2, 2], &[1.0, 0.0, 1.0, 2.0]));
    checks.same("matmul", &a.matmul(&b), &[2, 2], &[1.0, 2.0, 5.0, 6.0])?;
    let bias = Tensor::from_f32([2], &[10.0, 20.0]);
    checks.same("linear", &a.linear(&b, Some(&bias)), &[2, 2], &[10.0, 22.0, 12.0, 28.0])?;
    checks.same("addmm", &bias.addmm(&a, &b, 1.0, 2.0), &[2, 2], &[12.0, 24.0, 20.0, 32.0])?;
    checks.same("einsum", &Tensor::einsum("ij,jk->ki", &[&a, &b]), &[2, 2], &[1.0, 5.0, 2.0, 6.0])
}

fn layers(checks: &mut Checks) -> Result<()> {
    let (image, ones) = (counted(&[1, 1, 2, 2]), Tensor::full([1, 1, 2, 2], 1.0, Dtype::Float32));
    checks.same("conv2d", &image.conv2d(&ones, None, ConvGeometry::default()), &[1, 1, 1, 1], &[6.0])?;
    let grown = image.conv_transpose2d(&ones, None, ConvGeometry { stride: (2, 2), ..Default::default() }, (0, 0));
    let wanted = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 2.0, 2.0, 3.0, 3.0];
    checks.same("conv-transpose2d", &grown, &[1, 1, 4, 4], &wanted)?;
    checks.same("max-pool2d", &image.max_pool2d((2, 2), (2, 2), (0, 0)), &[1, 1, 1, 1], &[3.0])?;
    checks.same("avg-pool2d", &image.avg_pool2d((2, 2), (2, 2), (0, 0), true), &[1, 1, 1, 1], &[1.5])?;
    let pair = Tensor::from_f32([1, 2], &[1.0, 3.0]);
    checks.same("group-norm", &pair.group_norm(1, None, None, 0.0), &[1, 2], &[-1.0, 1.0])?;
    checks.same("layer-norm", &pair.layer_norm(1, None, None, 0.0), &[1, 2], &[-1.0, 1.0])?;
    checks.same("rms-norm", &pair.rms_norm(1, None, 0.0), &[1, 2], &[0.447_21, 1.341_64])?;
    checks.same("softmax", &Tensor::zeros([1, 2], Dtype::Float32).softmax(-1), &[1, 2], &[0.5, 0.5])?;
    let attended = pair.scaled_dot_product_attention(&pair, &pair, None, false, None);
    checks.same("scaled-dot-product-attention", &attended, &[1, 2], &[1.0, 3.0])?;
    checks.same("activate", &(-&pair).activate(Activation::LeakyRelu, 0.5), &[1, 2], &[-0.5, -1.5])?;
    let noise = [1.540_996, -0.293_428_9, -2.178_789_4];
    checks.same("randn", &Tensor::randn([3], 0), &[3], &noise)?;
    checks.same("rand", &Tensor::rand([2], 0), &[2], &[0.496_256_6, 0.768_221_8])?;
    let philox = Tensor::rand_from([2], 0, RandomGenerator::Philox);
    checks.same("rand-philox", &(philox.floor()), &[2], &[0.0, 0.0])?;
    let red = Tensor::from_f32([1, 3], &[0.5, 0.0, 0.0]);
    checks.same("rgb-to-hsv", &red.rgb_to_hsv(), &[1, 3], &[0.0, 1.0, 0.5])?;
    checks.same("hsv-to-rgb", &red.rgb_to_hsv().hsv_to_rgb(), &[1, 3], &[0.5, 0.0, 0.0])
}

fn orders(checks: &mut Checks) -> Result<()> {
    let values = Tensor::from_f32([4], &[3.0, 1.0, 2.0, 1.0]);
    let (sorted, places) = values.sort(0, false);
    checks.same("sort", &sorted, &[4], &[1.0, 1.0, 2.0, 3.0])?;
    checks.same("sort places", &places, &[4], &[1.0, 3.0, 2.0, 0.0])?;
    let (best, places) = values.topk(2, 0, true);
    checks.same("topk", &best, &[2], &[3.0, 2.0])?;
    checks.same("topk places", &places, &[2], &[0.0, 2.0])?;
    checks.same("argmax", &values.argmax(0), &[], &[0.0])?;
    checks.same("argmin", &values.argmin(0), &[], &[1.0])?;
    checks.same("cumsum", &values.cumsum(0), &[4], &[3.0, 4.0, 6.0, 7.0])?;
    checks.same("variance", &values.variance([], 0.0, false), &[], &[0.6875])?;
    let index = whole(&[2], &[2.0, 0.0]);
    checks.same("gather", &values.gather(0, &index), &[2], &[2.0, 3.0])?;
    checks.same("index-select", &values.index_select(0, &index), &[2], &[2.0, 3.0])?;
    checks.same("embedding", &counted(&[3, 2]).embedding(&index), &[2, 2], &[4.0, 5.0, 0.0, 1.0])?;
    let source = Tensor::from_f32([2], &[10.0, 20.0]);
    checks.same("scatter", &values.scatter(0, &index, &source), &[4], &[20.0, 1.0, 10.0, 1.0])?;
    checks.same("scatter-add", &values.scatter_add(0, &index, &source), &[4], &[23.0, 1.0, 12.0, 1.0])?;
    checks.same("masked-fill", &values.masked_fill(&values.greater(1.5), 9.0), &[4], &[9.0, 1.0, 9.0, 1.0])
}

fn arrangements(checks: &mut Checks) -> Result<()> {
    let line = counted(&[4]);
    checks.same("stack", &Tensor::stack(&[&line, &line], 1).slice(0, 3, 4), &[1, 2], &[3.0, 3.0])?;
    let parts = line.split([1, 3], 0)?;
    checks.same("split", &parts[1], &[3], &[1.0, 2.0, 3.0])?;
    checks.same("chunk", &line.chunk(3, 0)?[1], &[2], &[2.0, 3.0])?;
    checks.same("roll", &line.roll([1], [0]), &[4], &[3.0, 0.0, 1.0, 2.0])?;
    checks.same("repeat-interleave", &parts[1].repeat_interleave(2, 0), &[6], &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0])?;
    let shuffled = line.reshape([1, 4, 1, 1]).pixel_shuffle(2);
    checks.same("pixel-shuffle", &shuffled, &[1, 1, 2, 2], &[0.0, 1.0, 2.0, 3.0])?;
    checks.same("pixel-unshuffle", &shuffled.pixel_unshuffle(2), &[1, 4, 1, 1], &[0.0, 1.0, 2.0, 3.0])
}

fn refusals(checks: &mut Checks) -> Result<()> {
    let line = counted(&[4]);
    let outside = whole(&[1], &[4.0]);
    let before = whole(&[1], &[-1.0]);
    let one = Tensor::full([1], 1.0, Dtype::Float32);
    for (name, index) in [("behind the end", &outside), ("before the beginning", &before)] {
        checks.refused(name, ErrorKind::InvalidArgument, line.gather(0, index))?;
        checks.refused(name, ErrorKind::InvalidArgument, line.index_select(0, index))?;
        checks.refused(name, ErrorKind::InvalidArgument, line.embedding(index))?;
        checks.refused(name, ErrorKind::InvalidArgument, line.scatter(0, index, &one))?;
        checks.refused(name, ErrorKind::InvalidArgument, line.scatter_add(0, index, &one))?;
    }
    // More arithmetic than any machine has time for, from views that take no memory.
    let wide = one.reshape([1, 1]).expand([1 << 22, 1 << 22]);
    checks.refused("endless matmul", ErrorKind::LimitExceeded, wide.matmul(&wide))?;
    checks.refused("endless noise", ErrorKind::LimitExceeded, Tensor::randn([1 << 47], 1))?;
    checks.refused("endless repeats", ErrorKind::InvalidArgument, line.repeat_interleave(u64::MAX, 0))?;
    let image = counted(&[1, 1, 2, 2]);
    let still = ConvGeometry { stride: (0, 1), ..Default::default() };
    checks.refused("a stride of zero", ErrorKind::InvalidArgument, image.conv2d(&image, None, still))
}
