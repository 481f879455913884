//! The command line, and the trainer's arguments that follow from it.

use crate::grid::rate_name;
use crate::method::Method;
use crate::schedule::Task;
use crate::setting::Setting;
use anyhow::{Context, Result, ensure};
use clap::builder::RangedI64ValueParser;
use clap::{Parser, ValueEnum};
use std::fs;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};

fn positive() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(i32::MAX))
}

fn number(text: &str, range: impl RangeBounds<f64>, wanted: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| format!("give {wanted}"))
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.0..=1e3, "a number from 0 to 1000")
}

fn beta(text: &str) -> Result<f64, String> {
    number(text, 0.0..=0.999_999, "a number from 0 to 0.999999")
}

fn part(text: &str) -> Result<f64, String> {
    number(text, 0.0..=1.0, "a number from 0 to 1")
}

fn lambda(text: &str) -> Result<f64, String> {
    if text == "scale-free" { Ok(0.0) } else { number(text, 1e-30..=1e30, "a number of at least 1e-30, or scale-free") }
}

fn one_of(text: &str, names: &[&str]) -> Result<(), String> {
    if names.contains(&text) { Ok(()) } else { Err(format!("give one of {}", names.join(", "))) }
}

fn convention(text: &str) -> Result<(), String> {
    one_of(text, &["figure13", "reference-kl", "reference-soap", "reference-meta"])
}

fn graft(text: &str) -> Result<(), String> {
    one_of(text, &["none", "adam", "sgd", "rmsprop", "adagrad"])
}

fn methods(text: &str) -> Result<Methods, String> {
    if text == "all" { Ok(Methods::All) } else { Method::named(text).map(Methods::One) }
}

/// A choice as the trainer's command line spells it.
fn name_of(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Trains a byte-level GPT-2 in C with AdamW, with KL-Shampoo or with any other method of the library, from the same weights and on the same
/// batches, and compares them.
#[derive(Parser, Debug)]
#[command(name = "gpt", version, after_help = "Every rate, beta and period has the meaning that `gpt-train --help` gives it.")]
pub struct Cli {
    /// Size of the job; the options below it change single numbers of it.
    #[arg(long, value_enum, default_value = "small", help_heading = "Model and job")]
    pub size: Size,
    /// Transformer blocks.
    #[arg(long, value_parser = positive(), help_heading = "Model and job")]
    pub layers: Option<u32>,
    /// Width of the residual stream, a multiple of the heads.
    #[arg(long, value_parser = positive(), help_heading = "Model and job")]
    pub channels: Option<u32>,
    /// Attention heads.
    #[arg(long, value_parser = positive(), help_heading = "Model and job")]
    pub heads: Option<u32>,
    /// Bytes per training sequence.
    #[arg(long, value_parser = positive(), help_heading = "Model and job")]
    pub context: Option<u32>,
    /// Sequences per step.
    #[arg(long, value_parser = positive(), help_heading = "Model and job")]
    pub batch: Option<u32>,
    /// Training steps.
    #[arg(long, value_parser = positive(), help_heading = "Model and job")]
    pub steps: Option<u32>,
    /// A job of less than a minute, to see everything work: size tiny, 300 steps, a validation subset of 25,600 bytes.
    #[arg(long, conflicts_with = "size", help_heading = "Model and job")]
    pub quick: bool,
    /// Seed of the initial weights and of the batches.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=i64::from(i32::MAX)), help_heading = "Model and job")]
    pub seed: u32,
    /// Text file, or folder whose .txt files are separate works [default: the Shakespeare beside the sources].
    #[arg(long, value_name = "PATH", help_heading = "Model and job")]
    pub data: Option<PathBuf>,
    /// Steps between evaluations [default: 25, in a grid only the last step].
    #[arg(long, value_parser = positive(), help_heading = "Model and job")]
    pub eval_every: Option<u32>,
    /// Bytes of the fixed validation subset [default: 102400].
    #[arg(long, value_parser = positive(), help_heading = "Model and job")]
    pub eval_bytes: Option<u32>,

    /// Experts of every block's MLP; 0: a dense MLP.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=4096), help_heading = "Mixture of experts")]
    pub experts: u32,
    /// Experts that every token is given to.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4096), help_heading = "Mixture of experts")]
    pub experts_per_token: u32,
    /// Hidden width of an expert [default: 4 channels / experts per token].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Mixture of experts")]
    pub expert_width: Option<u32>,
    /// A layer's experts for the optimizer.
    #[arg(long, value_enum, default_value = "3d", help_heading = "Mixture of experts")]
    pub expert_tensors: ExpertTensors,
    /// Coefficient of the experts' load-balancing loss.
    #[arg(long, default_value_t = 0.01, value_parser = rate, value_name = "COEFFICIENT", help_heading = "Mixture of experts")]
    pub balance: f64,

    /// Optimizers of the hidden matrices, repeated or separated by commas, or all; AdamW takes the rest.
    #[arg(long, value_parser = methods, value_delimiter = ',', default_value = "adamw,kl-shampoo", help_heading = "Optimizers")]
    pub method: Vec<Methods>,
    /// Trainings at a time; each model has one thread.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Optimizers")]
    pub jobs: u32,
    /// Train every method with every one of these learning rates, and print the table of final losses.
    #[arg(long, value_parser = rate, value_delimiter = ',', num_args = 0..=1, default_missing_value = "5e-4,1e-3,2e-3,4e-3,8e-3,1.6e-2",
          conflicts_with = "lr", value_name = "LR,LR,...", help_heading = "Optimizers")]
    pub grid: Option<Vec<f64>>,
    /// Threads of each optimizer.
    #[arg(long, default_value_t = 1, value_parser = positive(), help_heading = "Optimizers")]
    pub threads: u32,
    /// Learning rate [default: each method's].
    #[arg(long, value_parser = |text: &str| Setting::parse(text, rate), value_name = "[METHOD=]LR", help_heading = "Optimizers")]
    pub lr: Vec<Setting>,
    /// Learning rate of AdamW beside the method, for embeddings, biases and layer norms [default: each method's].
    #[arg(long, value_parser = |text: &str| Setting::parse(text, rate), value_name = "[METHOD=]LR", help_heading = "Optimizers")]
    pub adamw_lr: Vec<Setting>,
    /// The method's momentum [default: each method's].
    #[arg(long, value_parser = |text: &str| Setting::parse(text, beta), value_name = "[METHOD=]BETA", help_heading = "Optimizers")]
    pub beta1: Vec<Setting>,
    /// The method's average of factors, eigenvalues and second moments [default: each method's].
    #[arg(long, value_parser = |text: &str| Setting::parse(text, beta), value_name = "[METHOD=]BETA", help_heading = "Optimizers")]
    pub beta2: Vec<Setting>,
    /// AdamW's momentum, alone and beside a method.
    #[arg(long, value_parser = beta, value_name = "BETA", help_heading = "Optimizers")]
    pub adamw_beta1: Option<f64>,
    /// AdamW's second moment, alone and beside a method.
    #[arg(long, value_parser = beta, value_name = "BETA", help_heading = "Optimizers")]
    pub adamw_beta2: Option<f64>,
    /// Steps between updates of the eigenbases (T).
    #[arg(long, default_value_t = 10, value_parser = positive(), value_name = "STEPS", help_heading = "Optimizers")]
    pub refresh_period: u32,
    /// Initial eigenvalue: a number, or scale-free [default: each method's].
    #[arg(long, value_parser = |text: &str| Setting::parse(text, lambda), value_name = "[METHOD=]LAMBDA", help_heading = "Optimizers")]
    pub lambda0: Vec<Setting>,
    /// Published variant: figure13, reference-kl, reference-soap or reference-meta.
    #[arg(long, value_parser = |text: &str| Setting::parse(text, convention), value_name = "[METHOD=]NAME", help_heading = "Optimizers")]
    pub convention: Vec<Setting>,
    /// Whose length the update takes: none, adam, sgd, rmsprop or adagrad [default: each method's].
    #[arg(long, value_parser = |text: &str| Setting::parse(text, graft), value_name = "[METHOD=]NAME", help_heading = "Optimizers")]
    pub graft: Vec<Setting>,
    /// Weight decay of matrices and embeddings.
    #[arg(long, default_value_t = 0.1, value_parser = rate, value_name = "WD", help_heading = "Optimizers")]
    pub weight_decay: f64,
    /// Weight decay of biases and layer norms.
    #[arg(long, default_value_t = 0.0, value_parser = rate, value_name = "WD", help_heading = "Optimizers")]
    pub vector_weight_decay: f64,
    /// Part of the steps in which the rate grows.
    #[arg(long, default_value_t = 0.05, value_parser = part, value_name = "PART", help_heading = "Optimizers")]
    pub warmup: f64,
    /// End of the cosine decay, as a part of the peak rate.
    #[arg(long, default_value_t = 0.1, value_parser = part, value_name = "PART", help_heading = "Optimizers")]
    pub final_lr: f64,
    /// Largest global gradient norm; 0: no clipping.
    #[arg(long, default_value_t = 0.0, value_parser = rate, value_name = "NORM", help_heading = "Optimizers")]
    pub clip: f64,

    /// Folder for the curves and the picture.
    #[arg(long, default_value = "runs/gpt", value_name = "FOLDER", help_heading = "Program")]
    pub out: PathBuf,
    /// Static library to link instead of building it.
    #[arg(long, value_name = "FILE", help_heading = "Program")]
    pub library: Option<PathBuf>,
    /// A gpt-train to run instead of compiling it.
    #[arg(long, value_name = "FILE", conflicts_with = "library", help_heading = "Program")]
    pub program: Option<PathBuf>,
    /// Check the model's hand-written gradient against finite differences, and stop.
    #[arg(long, help_heading = "Program")]
    pub gradcheck: bool,
}

/// Named jobs.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 2 layers, 64 channels, 2 heads, 12 x 64 bytes, 1500 steps
    Tiny,
    /// 4 layers, 128 channels, 4 heads, 12 x 64 bytes, 1500 steps
    Small,
    /// 6 layers, 192 channels, 6 heads, 16 x 128 bytes, 2000 steps
    Medium,
    /// 8 layers, 384 channels, 6 heads, 16 x 256 bytes, 4000 steps
    Large,
}

/// The numbers behind a [`Size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the options")]
pub struct Job {
    pub layers: u32,
    pub channels: u32,
    pub heads: u32,
    pub context: u32,
    pub batch: u32,
    pub steps: u32,
    pub eval_bytes: u32,
}

impl Size {
    const fn job(self) -> Job {
        let (layers, channels, heads, context, batch, steps) = match self {
            Self::Tiny => (2, 64, 2, 64, 12, 1500),
            Self::Small => (4, 128, 4, 64, 12, 1500),
            Self::Medium => (6, 192, 6, 128, 16, 2000),
            Self::Large => (8, 384, 6, 256, 16, 4000),
        };
        Job { layers, channels, heads, context, batch, steps, eval_bytes: 102_400 }
    }
}

/// One method, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// Every method of the library
    All,
    /// This one
    One(Method),
}

/// How the optimizer sees the experts' weights.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum ExpertTensors {
    /// One tensor of three dims per layer, the first one counts the experts
    #[value(name = "3d")]
    ThreeDims,
    /// A matrix per expert
    Matrices,
}

impl Cli {
    /// The job after all options.
    #[must_use]
    pub fn job(&self) -> Job {
        let mut job = self.size.job();
        if self.quick {
            job = Job { steps: 300, eval_bytes: 25_600, ..Size::Tiny.job() };
        }
        for (number, given) in [
            (&mut job.layers, self.layers),
            (&mut job.channels, self.channels),
            (&mut job.heads, self.heads),
            (&mut job.context, self.context),
            (&mut job.batch, self.batch),
            (&mut job.steps, self.steps),
            (&mut job.eval_bytes, self.eval_bytes),
        ] {
            *number = given.unwrap_or(*number);
        }
        job
    }

    /// The methods to train with, each once.
    #[must_use]
    pub fn methods(&self) -> Vec<Method> {
        let mut methods: Vec<Method> = Vec::new();
        for choice in &self.method {
            let chosen = Method::all().filter(|&method| matches!(choice, Methods::All) || *choice == Methods::One(method));
            for method in chosen {
                if !methods.contains(&method) {
                    methods.push(method);
                }
            }
        }
        methods
    }

    /// The trainings: every method, and in a grid every rate.
    #[must_use]
    pub fn tasks(&self) -> Vec<Task> {
        let task = |method: Method, rate: Option<f64>| Task {
            label: rate.map_or_else(|| method.name().to_owned(), |rate| format!("{} {}", method.name(), rate_name(rate))),
            method,
            arguments: self.arguments(method, rate),
        };
        let rates = |method| match &self.grid {
            Some(rates) => rates.iter().map(|&rate| task(method, Some(rate))).collect(),
            None => vec![task(method, None)],
        };
        self.methods().into_iter().flat_map(rates).collect()
    }

    /// The text to train on.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("data"))
    }

    /// Finds out what can be known to be wrong before anything is built, and creates the output folder.
    ///
    /// # Errors
    /// One line that says what to do.
    pub fn check(&self) -> Result<()> {
        let Job { channels, heads, .. } = self.job();
        let (experts, chosen) = (self.experts, self.experts_per_token);
        ensure!(experts == 0 || chosen <= experts, "--experts-per-token {chosen} is more than --experts {experts}; give at most as many");
        ensure!(channels % heads == 0, "--channels {channels} cannot be shared by --heads {heads}; give a multiple of the heads");
        let data = self.data();
        let kind = fs::metadata(&data)
            .with_context(|| format!("cannot read the text '{}'; give --data a text file or a folder of .txt files", data.display()))?;
        ensure!(kind.is_dir() || kind.len() > 0, "'{}' holds no text; give --data a text that is not empty", data.display());
        if let Some(library) = &self.library {
            ensure!(library.is_file(), "there is no library '{}'; give --library a libklshampoo_ffi.a, or leave it out", library.display());
        }
        if let Some(program) = &self.program {
            ensure!(program.is_file(), "there is no program '{}'; give --program a gpt-train, or leave it out", program.display());
        }
        let hint = || format!("cannot write to the folder '{}'; give --out a folder that you can write to", self.out.display());
        fs::create_dir_all(&self.out).with_context(hint)?;
        let probe = self.out.join(".writable");
        fs::write(&probe, []).with_context(hint)?;
        fs::remove_file(&probe).with_context(hint)
    }

    /// The trainer's arguments for one method. What is not given is the trainer's to choose.
    fn arguments(&self, method: Method, rate: Option<f64>) -> Vec<String> {
        let job = self.job();
        let eval_every = self.eval_every.unwrap_or(if self.grid.is_some() { job.steps } else { 25 });
        let always = [
            ("data", self.data().display().to_string()),
            ("layers", job.layers.to_string()),
            ("channels", job.channels.to_string()),
            ("heads", job.heads.to_string()),
            ("context", job.context.to_string()),
            ("batch", job.batch.to_string()),
            ("experts", self.experts.to_string()),
            ("experts-per-token", self.experts_per_token.to_string()),
            ("expert-width", self.expert_width.unwrap_or(0).to_string()),
            ("expert-tensors", name_of(self.expert_tensors)),
            ("balance", self.balance.to_string()),
            ("steps", job.steps.to_string()),
            ("eval-every", eval_every.to_string()),
            ("eval-bytes", job.eval_bytes.to_string()),
            ("seed", self.seed.to_string()),
            ("threads", self.threads.to_string()),
            ("method", method.argument().to_owned()),
            ("refresh-period", self.refresh_period.to_string()),
            ("weight-decay", self.weight_decay.to_string()),
            ("vector-weight-decay", self.vector_weight_decay.to_string()),
            ("warmup", self.warmup.to_string()),
            ("final-lr", self.final_lr.to_string()),
            ("clip", self.clip.to_string()),
        ];
        let setting = |settings| Setting::find(settings, method).map(str::to_owned);
        let given = [
            ("lr", rate.map(|rate| rate.to_string()).or_else(|| setting(&self.lr))),
            ("adamw-lr", setting(&self.adamw_lr)),
            ("beta1", setting(&self.beta1)),
            ("beta2", setting(&self.beta2)),
            ("adamw-beta1", self.adamw_beta1.map(|beta| beta.to_string())),
            ("adamw-beta2", self.adamw_beta2.map(|beta| beta.to_string())),
            ("lambda0", setting(&self.lambda0)),
            ("convention", setting(&self.convention)),
            ("graft", setting(&self.graft)),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
        always.into_iter().chain(given).map(|(name, value)| format!("--{name}={value}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn single_numbers_change_the_named_job() {
        let cli = Cli::parse_from(["gpt", "--quick", "--layers", "3"]);
        assert_eq!(cli.job(), Job { layers: 3, steps: 300, eval_bytes: 25_600, ..Size::Tiny.job() });
    }

    #[test]
    fn methods_are_trained_once_and_in_a_grid_with_every_rate() {
        let cli = Cli::parse_from(["gpt", "--method", "soap,adamw", "--method", "soap", "--lr", "1e-3", "--lr", "soap=2e-3"]);
        let tasks = cli.tasks();
        assert_eq!(tasks.iter().map(|task| task.label.as_str()).collect::<Vec<_>>(), ["SOAP", "AdamW"]);
        assert!(tasks[0].arguments.contains(&"--lr=2e-3".to_owned()) && tasks[1].arguments.contains(&"--lr=1e-3".to_owned()));
        assert!(!tasks[0].arguments.iter().any(|argument| argument.starts_with("--beta1")));

        let cli = Cli::parse_from(["gpt", "--method=all", "--grid", "1e-3,0.016"]);
        let tasks = cli.tasks();
        assert_eq!((cli.methods().len(), tasks.len()), (Method::all().count(), 2 * Method::all().count()));
        assert_eq!(tasks[3].label, "KL-Shampoo 1.6e-2");
        assert!(tasks[3].arguments.contains(&"--lr=0.016".to_owned()));
        assert_eq!(Cli::parse_from(["gpt", "--grid"]).grid.map(|rates| rates.len()), Some(6));
    }
}
