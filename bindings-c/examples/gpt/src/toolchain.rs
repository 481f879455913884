//! From sources to executables: the library by Cargo, the C trainer by the machine's C compiler.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::{env, fs};

/// What every C file is compiled with. The lines after -O3 are the parts of -ffast-math that let multiply-adds fuse and loops vectorise
/// without reordering any sum.
const FLAGS: [&str; 10] = [
    "-std=c11",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffinite-math-only",
    "-fno-signed-zeros",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
];

const MODEL: [&str; 6] = ["model.c", "forward.c", "backward.c", "moe.c", "ops.c", "gemm.c"];
const TRAINER: [&str; 8] = ["train.c", "methods.c", "optimizer.c", "options.c", "resume.c", "similarity.c", "text.c", "die.c"];

/// The folder of this package.
#[must_use]
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds the static library of the workspace's C interface and returns its path.
///
/// # Errors
/// If Cargo cannot be run or fails.
pub fn build_library(release: bool) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(package()).args(["build", "--package=klshampoo-ffi", "--message-format=json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo; install Rust or set CARGO to its path")?;
    ensure!(output.status.success(), "cargo could not build the library klshampoo-ffi; see its messages above");
    // Where the library lies depends on CARGO_TARGET_DIR and configuration files; Cargo itself says it best.
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(message.get("filenames")?.as_array()?.to_owned()))
        .flatten()
        .filter_map(|name| name.as_str().map(PathBuf::from))
        .rfind(|path| path.extension().is_some_and(|extension| extension == "a"))
        .context("cargo built no static library; klshampoo-ffi needs the crate type staticlib")
}

/// A C compiler with the flags of this example.
pub struct Compiler {
    tool: cc::Tool,
    work: PathBuf,
    native: bool,
    extra: Vec<OsString>,
}

impl Compiler {
    /// Finds the compiler and tries its flags; files are written to `work`.
    ///
    /// # Errors
    /// If there is no C compiler, or `work` cannot be written.
    pub fn new(work: &Path) -> Result<Self> {
        fs::create_dir_all(work).with_context(|| format!("cannot create '{}'; make its parent writable", work.display()))?;
        let mut build = cc::Build::new();
        build.target(env!("GPT_TARGET")).host(env!("GPT_TARGET")).opt_level(3).out_dir(work).cargo_metadata(false).warnings(false);
        let tool = build.try_get_compiler().context("no C compiler found; install gcc or clang, or set CC")?;
        let native = build.is_flag_supported("-march=native").unwrap_or(false);
        Ok(Self { tool, work: work.to_owned(), native, extra: Vec::new() })
    }

    /// Adds flags, such as -Werror.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.extra.extend(flags.iter().map(OsString::from));
        self
    }

    /// Compiles the trainer and links it with the static library of the C interface.
    ///
    /// # Errors
    /// If the compiler fails.
    pub fn trainer(&self, library: &Path) -> Result<PathBuf> {
        let libraries = [library.as_os_str().to_owned(), "-lm".into(), "-lpthread".into(), "-ldl".into()];
        self.executable("gpt-train", &[&TRAINER[..], &MODEL[..]].concat(), &[], &libraries)
    }

    /// Compiles the gradient check, in float or in double.
    ///
    /// # Errors
    /// If the compiler fails.
    pub fn gradcheck(&self, double: bool) -> Result<PathBuf> {
        let (name, defines): (_, &[&str]) = if double { ("gpt-gradcheck-f64", &["-DGPT_DOUBLE"]) } else { ("gpt-gradcheck-f32", &[]) };
        self.executable(name, &[&["gradcheck.c"], &MODEL[..]].concat(), defines, &["-lm".into()])
    }

    fn executable(&self, name: &str, sources: &[&str], defines: &[&str], libraries: &[OsString]) -> Result<PathBuf> {
        let target = self.work.join(format!("{name}{}", env::consts::EXE_SUFFIX));
        // The program of that name may be running: it is replaced as a whole.
        let fresh = self.work.join(format!("{name}-{}{}", process::id(), env::consts::EXE_SUFFIX));
        let folder = package().join("c");
        let mut command = self.tool.to_command();
        command.args(FLAGS).args(self.native.then_some("-march=native")).args(&self.extra).args(defines);
        command.arg("-I").arg(package().join("../../../include"));
        command.args(sources.iter().map(|source| folder.join(source))).args(libraries).arg("-o").arg(&fresh);
        let status =
            command.status().with_context(|| format!("cannot run {}; install gcc or clang, or set CC", self.tool.path().display()))?;
        if !status.success() {
            bail!("{} could not compile {name}; see its messages above", self.tool.path().display());
        }
        fs::rename(&fresh, &target).with_context(|| format!("cannot replace '{}'; stop what uses it", target.display()))?;
        Ok(target)
    }
}
