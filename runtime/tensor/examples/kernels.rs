//! Compiles the CUDA back end's kernels to PTX: `kernels FOLDER ARCHITECTURE…` writes `NAME.sm_NN.ptx` and a list of the
//! names. Needs NVRTC, but no GPU and no driver.
#![allow(missing_docs)]

#[cfg(feature = "cuda")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = std::path::PathBuf::from(arguments.next().ok_or("no folder")?);
    let architectures: Vec<u32> = arguments.map(|number| number.parse()).collect::<Result<_, _>>()?;
    std::fs::create_dir_all(&folder)?;
    let mut names = String::new();
    for kernel in vivarium_tensor::cuda::kernel_sources() {
        let name = format!("{}.{}", kernel.name, kernel.variant.replace(' ', "_"));
        for architecture in &architectures {
            let ptx = kernel.compile(*architecture)?;
            std::fs::write(folder.join(format!("{name}.sm_{architecture}.ptx")), ptx)?;
        }
        names.push_str(&name);
        names.push('\n');
    }
    std::fs::write(folder.join("kernels.txt"), names)?;
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn main() {
    eprintln!("this example needs the feature `cuda`");
}
