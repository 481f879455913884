//! Memory comes to an end: every allocation of every call that allocates (of those with files, every one of a kilobyte or more) fails once,
//! alone and with all that follow it. The call says so, frees what it has, and nothing has changed.
//!
//! Where memory is asked for by a crate or a part of the standard library that has no way to say so, the program ends instead. Those places are
//! listed in [`ENDS`], and every such end must come from one of them: a child process makes the calls, and this one looks at how it ended. A program
//! of its own, because its allocator is.

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use klshampoo::Mode;
use klshampoo_ffi::host::from_safetensors;
use klshampoo_ffi::*;
use klshampoo_tests::c_abi::{config_to_c, options, tensor_to_c};
use klshampoo_tests::exhaustible::Exhaustible;
use klshampoo_tests::harness::Number;
use klshampoo_tests::plugins::{backwards, sgemm};

#[global_allocator]
static ALLOCATOR: Exhaustible = Exhaustible;

/// Who ends the program when there is no memory: the innermost file of the library that the stack shows, and what it asks whom for.
const ENDS: [(&str, &str); 6] = [
    ("thread_start", "std::thread, in a thread of the library's own that starts"),
    ("ffi/src/host/pool/threads.rs", "std::thread, for a thread of the library's own"),
    ("ffi/src/host/safetensors.rs", "serde_json and safetensors, for the metadata of a file"),
    ("ffi/src/host/json.rs", "serde_json, for the metadata of a file"),
    ("ffi/src/host/file.rs", "the tensors' names, for the metadata of a file"),
    ("ffi/src/host/replace.rs", "tempfile and std::io, for a temporary file; paths"),
];

/// A call that allocates, or must not.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Create,
    AddTensors,
    Save,
    Load,
    SaveFile,
    LoadFile,
}

impl Call {
    /// How many bytes an allocation has that fails. A file's metadata are hundreds of small ones of `serde_json`'s, each of which would end the
    /// program; what grows with the state is larger.
    fn at_least(self) -> usize {
        if matches!(self, Self::SaveFile | Self::LoadFile) { 1024 } else { 0 }
    }
}

/// What the optimizer of a call is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Host {
    Portable,
    Faer,
    OwnThreads,
    CallersPool,
    CallersProduct,
}

impl Host {
    const ALL: [Self; 5] = [Self::Portable, Self::Faer, Self::OwnThreads, Self::CallersPool, Self::CallersProduct];

    fn options(self) -> kls_options {
        match self {
            Self::Portable => options(1, KLS_BACKEND_PORTABLE),
            Self::Faer => options(1, KLS_BACKEND_FAER),
            Self::OwnThreads => options(2, KLS_BACKEND_FAER),
            Self::CallersPool => kls_options { parallel_for: Some(backwards), ..options(2, KLS_BACKEND_FAER) },
            Self::CallersProduct => kls_options { sgemm: Some(sgemm), ..options(1, KLS_BACKEND_FAER) },
        }
    }
}

/// All that is tried.
fn scenarios() -> Vec<(Call, Host)> {
    let growing = Host::ALL.into_iter().flat_map(|host| [(Call::Create, host), (Call::AddTensors, host)]);
    let others = [Call::Save, Call::Load, Call::SaveFile, Call::LoadFile].map(|call| (call, Host::Faer));
    growing.chain(others).collect()
}

const DIMS: [[usize; 2]; 2] = [[6, 5], [3, 7]];

/// An optimizer, or none, and what there was before the call.
struct Trial {
    call: Call,
    host: Host,
    group: kls_config,
    tensors: [kls_tensor; 2],
    options: kls_options,
    optimizer: *mut kls_optimizer,
    path: PathBuf,
    c_path: CString,
    image: Vec<u8>,
    file: Vec<u8>,
}

impl Drop for Trial {
    fn drop(&mut self) {
        // SAFETY: a live optimizer, or NULL.
        assert_eq!(unsafe { kls_optimizer_destroy(&mut self.optimizer) }, KLS_OK);
    }
}

impl Trial {
    fn new(call: Call, host: Host, folder: &Path) -> Self {
        let path = folder.join("state.safetensors");
        let c_path = CString::new(path.to_str().unwrap()).unwrap();
        let mut trial = Self {
            call,
            host,
            group: kls_config { refresh_period: 2, ..config_to_c(&f32::kl_shampoo()) },
            tensors: DIMS.map(|dims| tensor_to_c(&dims, &[None::<Mode>; 2])),
            options: host.options(),
            optimizer: std::ptr::null_mut(),
            path,
            c_path,
            image: Vec::new(),
            file: Vec::new(),
        };
        if call == Call::Create {
            return trial;
        }
        assert_eq!(trial.create(), KLS_OK);
        (0..5).for_each(|step| trial.step(DIMS.len(), step));
        if matches!(call, Call::SaveFile | Call::LoadFile) {
            // An older state than the optimizer's.
            assert_eq!(trial.save_file(), KLS_OK);
            trial.file = std::fs::read(&trial.path).unwrap();
            (5..7).for_each(|step| trial.step(DIMS.len(), step));
        }
        trial.image = trial.save();
        trial
    }

    fn create(&mut self) -> kls_status {
        let Self { group, tensors, options, .. } = self;
        // SAFETY: all pointers are to live values.
        unsafe { kls_optimizer_create(&mut self.optimizer, group, 1, tensors.as_ptr(), tensors.len(), options) }
    }

    fn save(&self) -> Vec<u8> {
        let mut len = 0;
        // SAFETY: a live optimizer, a live number.
        assert_eq!(unsafe { kls_optimizer_save_size(self.optimizer, &mut len) }, KLS_OK);
        let mut image = vec![0u8; len as usize];
        // SAFETY: a live optimizer, a buffer of that length.
        assert_eq!(unsafe { kls_optimizer_save(self.optimizer, image.as_mut_ptr().cast::<c_void>(), image.len()) }, KLS_OK);
        image
    }

    fn save_file(&self) -> kls_status {
        // SAFETY: a live optimizer, a text.
        unsafe { kls_optimizer_save_file(self.optimizer, self.c_path.as_ptr()) }
    }

    fn step(&self, count: usize, seed: usize) {
        let lens = DIMS.iter().chain(&DIMS[..1]).map(|dims| dims[0] * dims[1]).take(count);
        let mut params: Vec<Vec<f32>> = lens.map(|len| vec![0.1; len]).collect();
        let grads: Vec<Vec<f32>> =
            params.iter().map(|p| (0..p.len()).map(|i| ((7 * i + 3 * seed) % 11) as f32 * 0.1 - 0.5).collect()).collect();
        let params: Vec<*mut f32> = params.iter_mut().map(Vec::as_mut_ptr).collect();
        let grads: Vec<*const f32> = grads.iter().map(Vec::as_ptr).collect();
        // SAFETY: a live optimizer, buffers of its tensors' lengths.
        assert_eq!(unsafe { kls_optimizer_step(self.optimizer, params.as_ptr(), grads.as_ptr(), count, 0.01) }, KLS_OK);
    }

    /// The call, and nothing else.
    fn make(&mut self) -> kls_status {
        match self.call {
            Call::Create => self.create(),
            // SAFETY: a live optimizer, a live tensor.
            Call::AddTensors => unsafe { kls_optimizer_add_tensors(self.optimizer, self.tensors.as_ptr(), 1) },
            Call::Save => {
                let mut image = [0u8; 1 << 14];
                // SAFETY: a live optimizer, a buffer of that length.
                unsafe { kls_optimizer_save(self.optimizer, image.as_mut_ptr().cast::<c_void>(), image.len()) }
            }
            // SAFETY: a live optimizer, a buffer of that length.
            Call::Load => unsafe { kls_optimizer_load(self.optimizer, self.image.as_ptr().cast::<c_void>(), self.image.len()) },
            Call::SaveFile => self.save_file(),
            // SAFETY: a live optimizer, a text.
            Call::LoadFile => unsafe { kls_optimizer_load_file(self.optimizer, self.c_path.as_ptr()) },
        }
    }

    /// What must hold after it, with all the memory that there is.
    fn check(&mut self, status: kls_status) {
        if status != KLS_OK {
            assert!(status == KLS_ERROR_OUT_OF_MEMORY || (self.host == Host::OwnThreads && status == KLS_ERROR_THREADS), "status {status}");
            if self.call == Call::Create {
                assert!(self.optimizer.is_null());
            } else {
                assert!(self.save() == self.image, "a call that failed has changed the state");
            }
            if matches!(self.call, Call::SaveFile | Call::LoadFile) {
                assert!(std::fs::read(&self.path).unwrap() == self.file, "a call that failed has changed the file");
                assert_eq!(self.path.parent().unwrap().read_dir().unwrap().count(), 1, "a call that failed has left a file");
            }
            // It can be made again.
            assert_eq!(self.make(), KLS_OK);
        }
        match self.call {
            Call::Create => {}
            Call::AddTensors => return self.step(3, 7),
            Call::Save | Call::Load => assert!(self.save() == self.image),
            Call::SaveFile => assert!(std::fs::read(&self.path).unwrap() != self.file),
            Call::LoadFile => assert!(self.save() == from_safetensors(&self.file).unwrap()),
        }
        self.step(DIMS.len(), 7);
    }
}

/// Makes a call again and again, each time with memory coming to an end one allocation later, and prints what it came to; ends when there are no
/// more allocations, or in one that cannot fail.
fn child(scenario: usize, first: usize, rest: bool, folder: &Path) {
    extern "C" fn on_abort(_: i32) {
        Exhaustible::stop();
        eprintln!("{}", Backtrace::force_capture());
    }
    unsafe extern "C" {
        safe fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    }
    /// The same number everywhere.
    const SIGABRT: i32 = 6;
    signal(SIGABRT, on_abort);
    // What the standard library does without memory is to look up, with memory, whether it is to print a stack; it remembers that from here on.
    let _ = std::panic::catch_unwind(|| panic!("nothing is wrong yet"));
    let (call, host) = scenarios()[scenario];
    // What is made once in a program's life.
    Trial::new(call, host, folder).check(KLS_ERROR_OUT_OF_MEMORY);
    for n in first.. {
        let before = Exhaustible::live_blocks();
        let status = {
            let mut trial = Trial::new(call, host, folder);
            Exhaustible::fail_at(n, rest, call.at_least());
            let status = trial.make();
            let failed = Exhaustible::stop();
            trial.check(status);
            (failed > 0).then_some(status)
        };
        let leaked = Exhaustible::live_blocks() - before;
        assert!(leaked == 0, "{leaked} blocks leaked after allocation {n}");
        match status {
            Some(status) => println!("call {n} {status}"),
            None => return println!("end {n}"),
        }
    }
}

/// What became of the allocations of a scenario.
#[derive(Default)]
struct Outcome {
    reported: usize,
    survived: usize,
    ended: BTreeMap<&'static str, usize>,
}

/// The one of [`ENDS`] that a stack shows.
fn blame(stack: &str) -> Option<&'static str> {
    // A thread that is starting has not come to the library yet.
    let own = |line: &&str| line.contains("ffi/src/") || line.contains("thread_start");
    let innermost = stack.lines().find(own)?;
    ENDS.iter().find(|(file, _)| innermost.contains(file)).map(|&(_, what)| what)
}

fn was_aborted(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(6)
}

fn parent(scenario: usize, rest: bool, outcome: &mut Outcome) {
    let mut next = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let arguments = [scenario.to_string(), next.to_string(), u8::from(rest).to_string()];
        let output =
            Command::new(std::env::current_exe().unwrap()).env("RUST_BACKTRACE", "0").args(arguments).arg(folder.path()).output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut ended = false;
        for line in stdout.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            next = words[1].parse::<usize>().unwrap() + 1;
            ended |= words[0] == "end";
            if words[0] == "call" {
                *if words[2] == "0" { &mut outcome.survived } else { &mut outcome.reported } += 1;
            }
        }
        if ended {
            assert!(output.status.success(), "{:?}: {stderr}", scenarios()[scenario]);
            return;
        }
        let what = format!("{:?}, allocation {next}, and all after it: {rest}", scenarios()[scenario]);
        assert!(was_aborted(output.status) && stderr.contains("memory allocation of"), "{what}: {stdout}\n{stderr}");
        let blamed = blame(&stderr).unwrap_or_else(|| panic!("{what}: the library ended the program\n{stderr}"));
        *outcome.ended.entry(blamed).or_default() += 1;
        // Even then the file is the old one or the new one.
        if let Ok(file) = std::fs::read(folder.path().join("state.safetensors")) {
            from_safetensors(&file).unwrap_or_else(|status| panic!("{what}: status {status} of the file"));
        }
        next += 1;
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [scenario, first, rest, folder] = arguments.as_slice()
        && let (Ok(scenario), Ok(first), Ok(rest)) = (scenario.parse(), first.parse(), rest.parse::<u8>())
    {
        child(scenario, first, rest == 1, Path::new(folder));
        return ExitCode::SUCCESS;
    }
    let mut total = 0;
    for (scenario, (call, host)) in scenarios().into_iter().enumerate() {
        let mut outcome = Outcome::default();
        [false, true].into_iter().for_each(|rest| parent(scenario, rest, &mut outcome));
        let Outcome { reported, survived, ended } = &outcome;
        let ends: usize = ended.values().sum();
        total += reported + survived + ends;
        println!("{call:?}, {host:?}: {reported} failed allocations reported, {survived} did without, {ends} ended the program {ended:?}");
        match call {
            Call::Create | Call::AddTensors => {
                assert!(*reported >= 4 && (ends == 0 || host == Host::OwnThreads), "{call:?}, {host:?}");
            }
            Call::Save | Call::Load => assert_eq!(reported + survived + ends, 0, "{call:?} allocates"),
            // The copies of the state, which are all that is large.
            Call::SaveFile | Call::LoadFile => assert!(*reported >= 2, "{call:?}"),
        }
    }
    println!("{total} allocations failed");
    ExitCode::SUCCESS
}
