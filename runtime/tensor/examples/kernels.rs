//! Compiles the CUDA back end's kernels to PTX: `kernels FOLDER CACHE CAPABILITY…` writes `NAME.sm_NN.ptx` and a list of the
//! names. What lies in the folder CACHE is not compiled again. Needs NVRTC, but no GPU and no driver.
#![allow(missing_docs)]

#[cfg(feature = "cuda")]
fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    use rayon::prelude::*;
    let mut arguments = std::env::args().skip(1);
    let mut folder = || arguments.next().map(std::path::PathBuf::from).ok_or("two folders are needed");
    let (folder, cache) = (folder()?, folder()?);
    let capabilities: Vec<u32> = arguments.map(|number| number.parse()).collect::<Result<_, _>>()?;
    std::fs::create_dir_all(&folder)?;
    let kernels = vivarium_tensor::cuda::kernel_sources();
    let written = kernels.par_iter().map(|kernel| {
        let name = format!("{}.{}", kernel.name, kernel.variant.replace(' ', "_"));
        // One after the other: several capabilities share what was compiled for the first of them.
        for capability in &capabilities {
            let ptx = kernel.compile(*capability, &cache)?;
            std::fs::write(folder.join(format!("{name}.sm_{capability}.ptx")), ptx)?;
        }
        Ok(name + "\n")
    });
    let names = written.collect::<Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>>>()?;
    std::fs::write(folder.join("kernels.txt"), names.concat())?;
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn main() {
    eprintln!("this example needs the feature `cuda`");
}
