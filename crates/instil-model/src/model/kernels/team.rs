//! The threads that share a forward pass, in phases of some ten microseconds each.
//!
//! Waking sleeping threads for each phase would cost as much as the phases: so members look out for
//! the next one, and sleep only when no job has come for a while. Work is handed out by the piece:
//! each member begins with a run of its own, so that it reads memory in order, and then takes what
//! others have not come to. A phase is over when its pieces are done, whoever has come: a member that
//! the system holds up delays nobody but for the piece in its hands.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Phases of one job.
pub(crate) const PHASES: usize = 8;
/// Looks at the next job before a member goes to sleep; some tens of microseconds.
const SPINS: usize = 4_000;
/// Looks before a waiting member lets others have the processor.
const SPINS_BEFORE_YIELD: usize = 2_000;
/// No job is open.
const CLOSED: usize = 0;

type Job<'a> = dyn Fn(&Member) + Sync + 'a;

/// A fixed number of threads, the caller's own included.
pub struct Team {
    jobs: usize,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    size: usize,
    /// Number of the job that members may join, or [`CLOSED`].
    open: AtomicUsize,
    /// Members that may be looking at the job.
    joined: AtomicUsize,
    job: UnsafeCell<Option<*const Job<'static>>>,
    /// Pieces taken of each member's run, by phase and member.
    taken: Vec<Padded>,
    /// Pieces done, by phase.
    done: [Padded; PHASES],
    asleep: Vec<AtomicBool>,
    panicked: AtomicBool,
    over: AtomicBool,
}

/// A counter on a cache line of its own.
#[repr(align(64))]
#[derive(Default)]
struct Padded(AtomicUsize);

// SAFETY: `job` is written by the caller while no job is open and nobody has joined one; a member
// reads it after it has joined and then seen a job open, and the caller waits for all who have joined
// before it lets the job go.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in it is only followed during `Team::run`.
unsafe impl Send for Shared {}

/// One thread's part in a job.
pub struct Member<'a> {
    /// 0 for the caller's own thread.
    pub index: usize,
    shared: &'a Shared,
}

impl Team {
    /// A team of `size` threads, of which one is whichever calls [`Team::run`].
    pub fn new(size: usize) -> Self {
        let size = size.max(1);
        let shared = Arc::new(Shared {
            size,
            open: AtomicUsize::new(CLOSED),
            joined: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            taken: (0..PHASES * size).map(|_| Padded::default()).collect(),
            done: Default::default(),
            asleep: (0..size).map(|_| AtomicBool::new(false)).collect(),
            panicked: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        // What the system gives no thread for, the others do.
        let workers = (1..size)
            .map_while(|index| {
                let shared = shared.clone();
                let builder = std::thread::Builder::new().name(format!("forward-{index}"));
                builder.spawn(move || work(&shared, index)).ok()
            })
            .collect();
        Self { jobs: 0, shared, workers }
    }

    /// Number of threads.
    pub(crate) fn size(&self) -> usize {
        self.shared.size
    }

    /// Lets members run `job`, and returns when all its phases are over and nobody runs it any more.
    /// A member that comes late joins in the middle, or not at all.
    #[expect(clippy::transmute_ptr_to_ptr, reason = "no cast extends a lifetime")]
    pub(crate) fn run(&mut self, job: &(dyn Fn(&Member) + Sync)) {
        let shared = &*self.shared;
        for counter in shared.taken.iter().chain(&shared.done) {
            counter.0.store(0, Ordering::Relaxed);
        }
        let pointer: *const Job<'_> = job;
        // SAFETY: only the lifetime changes. Nobody follows the pointer once no job is open and none
        // is joined, which is awaited below.
        unsafe {
            *shared.job.get() = Some(std::mem::transmute::<*const Job<'_>, *const Job<'static>>(pointer));
        }
        self.jobs += 1;
        shared.open.store(self.jobs, Ordering::SeqCst);
        for (worker, asleep) in self.workers.iter().zip(&shared.asleep[1..]) {
            if asleep.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        let own = run_job(shared, job, 0);
        shared.open.store(CLOSED, Ordering::SeqCst);
        wait(|| shared.joined.load(Ordering::SeqCst) == 0);
        assert!(own && !shared.panicked.load(Ordering::Relaxed), "a member of the team has panicked");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A panic of a member was told when it happened.
            let _ = worker.join();
        }
    }
}

impl Member<'_> {
    /// Runs the pieces `0..count` of a phase, shared out among the members, then waits until all of
    /// them are done. Each phase of a job has a number of its own, and all members go through the
    /// same phases with the same counts.
    pub(crate) fn share(&self, phase: usize, count: usize, mut piece: impl FnMut(usize)) {
        let shared = self.shared;
        let mut own = 0;
        for turn in 0..shared.size {
            let owner = (self.index + turn) % shared.size;
            let (start, end) = (count * owner / shared.size, count * (owner + 1) / shared.size);
            let taken = &shared.taken[phase * shared.size + owner].0;
            while taken.load(Ordering::Relaxed) < end - start {
                let next = start + taken.fetch_add(1, Ordering::Relaxed);
                if next < end {
                    piece(next);
                    own += 1;
                }
            }
        }
        let done = &shared.done[phase].0;
        if own > 0 {
            done.fetch_add(own, Ordering::AcqRel);
        }
        wait(|| {
            assert!(!shared.panicked.load(Ordering::Relaxed), "another member of the team has panicked");
            done.load(Ordering::Acquire) == count
        });
    }
}

fn wait(done: impl Fn() -> bool) {
    let mut spins = 0;
    while !done() {
        spins += 1;
        if spins < SPINS_BEFORE_YIELD { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// Whether the job came to its end.
fn run_job(shared: &Shared, job: &(dyn Fn(&Member) + Sync), index: usize) -> bool {
    let member = Member { index, shared };
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&member))).is_ok();
    if !ended {
        shared.panicked.store(true, Ordering::Relaxed);
    }
    ended
}

fn work(shared: &Shared, index: usize) {
    let mut last = CLOSED;
    let waiting = |last: usize| {
        let open = shared.open.load(Ordering::SeqCst);
        (open == CLOSED || open == last) && !shared.over.load(Ordering::SeqCst)
    };
    while !shared.over.load(Ordering::SeqCst) {
        let mut spins = 0;
        while waiting(last) {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            // Told first, looked at again, then slept: a job that opens in between sees the flag.
            shared.asleep[index].store(true, Ordering::SeqCst);
            if waiting(last) {
                std::thread::park();
            }
            shared.asleep[index].store(false, Ordering::SeqCst);
        }
        // Joined first, looked at again, then run: a job that closes in between is left alone.
        shared.joined.fetch_add(1, Ordering::SeqCst);
        let open = shared.open.load(Ordering::SeqCst);
        if open != CLOSED && open != last {
            last = open;
            // SAFETY: the job was written before it was opened, and `Team::run` keeps it alive until
            // this member has left.
            if let Some(job) = unsafe { *shared.job.get() } {
                run_job(shared, unsafe { &*job }, index);
            }
        }
        shared.joined.fetch_sub(1, Ordering::SeqCst);
    }
}
