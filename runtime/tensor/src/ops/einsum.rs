//! Sums of products over named dimensions, of one or two tensors.

use crate::{OpContext, ReduceOp, Tensor, TensorError};

const OP: &str = "einsum";

/// A tensor whose dimensions have names.
struct Named {
    tensor: Tensor,
    names: Vec<char>,
}

impl Named {
    fn new(tensor: &Tensor, names: &str) -> Result<Named, TensorError> {
        let names: Vec<char> = names.chars().collect();
        if let Some(odd) = names.iter().find(|name| !name.is_ascii_alphabetic()) {
            let message = format!("has {odd:?}; dimensions are named by single letters, without an ellipsis");
            return Err(TensorError::argument(OP, "equation", message));
        }
        if names.len() != tensor.rank() {
            let message = format!("names {} dimensions of a tensor of shape {}", names.len(), tensor.lengths_shape());
            return Err(TensorError::argument(OP, "equation", message));
        }
        if let Some(twice) = (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
            let message = format!("names {:?} twice in one operand, which is not supported", names[twice]);
            return Err(TensorError::argument(OP, "equation", message));
        }
        Ok(Named { tensor: tensor.clone(), names })
    }

    fn length(&self, name: char) -> Option<usize> {
        let at = self.names.iter().position(|own| *own == name)?;
        Some(self.tensor.dims()[at])
    }

    /// Sums over the dimensions that nobody else names.
    fn without(self, alone: impl Fn(char) -> bool, cx: &OpContext) -> Result<Named, TensorError> {
        let dims: Vec<i32> = (0..self.names.len()).filter(|at| alone(self.names[*at])).map(|at| at as i32).collect();
        if dims.is_empty() {
            return Ok(self);
        }
        let names = self.names.iter().copied().filter(|name| !alone(*name)).collect();
        let dtype = self.tensor.dtype();
        Ok(Named { tensor: self.tensor.reduce(ReduceOp::Sum, &dims, false, cx)?.cast(dtype, cx)?, names })
    }

    fn ordered(&self, order: &[char], cx: &OpContext) -> Result<Tensor, TensorError> {
        let place = |name: &char| self.names.iter().position(|own| own == name).unwrap_or_default() as i32;
        self.tensor.permute(&order.iter().map(place).collect::<Vec<_>>(), cx)
    }
}

impl Tensor {
    /// As PyTorch's `einsum` for one or two tensors of floats: `bij,bjk->bik`. Letters that the result does not name are
    /// summed over. The arrow is required; a letter twice in one operand, and the ellipsis, are not supported.
    pub fn einsum(equation: &str, tensors: &[&Tensor], cx: &OpContext) -> Result<Tensor, TensorError> {
        if equation.len() > 256 {
            let asked = equation.len().to_string();
            return Err(TensorError::Limit { op: OP, what: "the length of the equation", asked, limit: 256 });
        }
        let equation: String = equation.chars().filter(|letter| *letter != ' ').collect();
        let Some((operands, output)) = equation.split_once("->") else {
            return Err(TensorError::argument(OP, "equation", "has no `->`; write the result's dimensions behind one"));
        };
        let operands: Vec<&str> = operands.split(',').collect();
        if operands.len() != tensors.len() || !(1..=2).contains(&tensors.len()) {
            let message =
                format!("names {} operands for {} tensors; one or two will do", operands.len(), tensors.len());
            return Err(TensorError::argument(OP, "equation", message));
        }
        let output: Vec<char> = output.chars().collect();
        let named = operands.iter().zip(tensors).map(|(names, tensor)| {
            tensor.check_float(OP, "tensors")?;
            Named::new(tensor, names)
        });
        let mut named = named.collect::<Result<Vec<_>, _>>()?;
        let known = |name: &char| named.iter().any(|operand| operand.names.contains(name));
        let repeated = (1..output.len()).any(|at| output[..at].contains(&output[at]));
        if repeated || !output.iter().all(known) {
            return Err(TensorError::argument(OP, "equation", "names a dimension of the result twice or from nowhere"));
        }
        let right = if named.len() == 2 { named.pop() } else { None };
        let Some(left) = named.pop() else { return Err(TensorError::argument(OP, "tensors", "are missing")) };
        match right {
            None => left.without(|name| !output.contains(&name), cx)?.ordered(&output, cx)?.contiguous(cx),
            Some(right) => product(left, right, &output, cx),
        }
    }
}

fn product(left: Named, right: Named, output: &[char], cx: &OpContext) -> Result<Tensor, TensorError> {
    for name in &left.names {
        if right.length(*name).is_some_and(|length| Some(length) != left.length(*name)) {
            let message = format!("gives dimension {name:?} two lengths");
            return Err(TensorError::argument(OP, "equation", message));
        }
    }
    let (left_names, right_names) = (left.names.clone(), right.names.clone());
    let left = left.without(|name| !output.contains(&name) && !right_names.contains(&name), cx)?;
    let right = right.without(|name| !output.contains(&name) && !left_names.contains(&name), cx)?;
    let shared = |name: &&char| right.names.contains(name);
    let (mut batch, mut summed, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for name in &left.names {
        let list = match (shared(&name), output.contains(name)) {
            (true, true) => &mut batch,
            (true, false) => &mut summed,
            _ => &mut rows,
        };
        list.push(*name);
    }
    let columns: Vec<char> = right.names.iter().copied().filter(|name| !left.names.contains(name)).collect();
    let lengths = |names: &[char]| -> Vec<usize> {
        names.iter().filter_map(|name| left.length(*name).or_else(|| right.length(*name))).collect()
    };
    let size = |names: &[char]| lengths(names).iter().product::<usize>() as i64;
    let matrix = |operand: &Named, order: [&[char]; 3]| {
        let ordered = operand.ordered(&order.concat(), cx)?;
        ordered.reshape(&order.map(size), cx)
    };
    let product = matrix(&left, [&batch, &rows, &summed])?.matmul(&matrix(&right, [&batch, &summed, &columns])?, cx)?;
    let names = [batch, rows, columns].concat();
    let shape: Vec<i64> = lengths(&names).into_iter().map(|length| length as i64).collect();
    Named { tensor: product.reshape(&shape, cx)?, names }.ordered(output, cx)
}
