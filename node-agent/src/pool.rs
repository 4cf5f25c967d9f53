//! Threads for the model's kernels: they spin a moment for the next piece of work and then park.
//!
//! One piece runs at a time; who comes while it runs computes by itself, on its own thread, so that nobody waits for
//! another's work. Parts are taken one by one, so that a thread which the system does not run holds nobody up but for
//! the part that it has.

use model::parallel::{Parallel, Serial};
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// The threads of this process; there is one set, however many models are loaded.
pub fn shared() -> Arc<dyn Parallel> {
    static POOL: OnceLock<Arc<dyn Parallel>> = OnceLock::new();
    let start = || match Pool::for_this_machine() {
        Ok(pool) => Arc::new(pool) as Arc<dyn Parallel>,
        Err(error) => {
            tracing::warn!(%error, "no threads for the kernels; one core computes");
            Arc::new(Serial)
        }
    };
    Arc::clone(POOL.get_or_init(start))
}

/// How long a thread looks for more work before it parks: longer than the serial work between two pieces of a step
/// (tens of microseconds), far shorter than what another process on the same cores would miss.
const SPIN: Duration = Duration::from_micros(60);
/// Looks between two looks at the clock.
const SPINS_PER_LOOK: usize = 64;

type Part<'a> = dyn Fn(usize) + Sync + 'a;

/// A piece of work while it runs.
struct Piece {
    /// Valid while the piece is in [`Shared::open`] or somebody is counted in `inside`.
    part: *const Part<'static>,
    count: usize,
    /// The next part to take.
    next: AtomicUsize,
    /// Workers that may touch the piece.
    inside: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `part` points to something `Sync`, and `Pool::run` outlives every use of it.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

impl Piece {
    fn work(&self) {
        // SAFETY: the caller is `run` itself or counted in `inside`, for both of which `run` waits.
        let part = unsafe { &*self.part };
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.count {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| part(index))) {
                *lock(&self.panic) = Some(panic);
            }
        }
    }
}

struct Shared {
    /// Counts pieces, so that a spinning worker sees a new one without the lock.
    generation: AtomicU64,
    open: Mutex<Option<Arc<Piece>>>,
    stop: AtomicBool,
}

struct Worker {
    thread: Thread,
    parked: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

/// The threads. Dropping it ends them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// Held by whose piece runs.
    busy: Mutex<()>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").field("width", &self.width()).finish()
    }
}

impl Pool {
    /// Threads for `width` parts at a time; the caller of [`Parallel::run`] is one of them.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(width: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            generation: AtomicU64::new(0),
            open: Mutex::new(None),
            stop: AtomicBool::new(false),
        });
        let mut pool = Self { shared, workers: Vec::new(), busy: Mutex::new(()) };
        for index in 1..width {
            let shared = Arc::clone(&pool.shared);
            let parked = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&parked);
            let handle = std::thread::Builder::new()
                .name(format!("kernels-{index}"))
                .spawn(move || serve(&shared, &flag))?;
            let thread = handle.thread().clone();
            pool.workers.push(Worker { thread, parked, handle: Some(handle) });
        }
        Ok(pool)
    }

    /// As many threads as this process may run at the same time.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn for_this_machine() -> std::io::Result<Self> {
        Self::start(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn publish(&self, piece: &Arc<Piece>) {
        *lock(&self.shared.open) = Some(Arc::clone(piece));
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        for worker in &self.workers {
            if worker.parked.swap(false, Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
    }

    /// Nobody comes in any more; waits for those inside.
    fn close(&self, piece: &Piece) {
        *lock(&self.shared.open) = None;
        let mut spins = 0_usize;
        while piece.inside.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins.is_multiple_of(SPINS_PER_LOOK) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

impl Parallel for Pool {
    fn width(&self) -> usize {
        self.workers.len() + 1
    }

    fn run(&self, count: usize, part: &(dyn Fn(usize) + Sync)) {
        let _busy = match self.busy.try_lock() {
            Ok(guard) if count > 1 && !self.workers.is_empty() => guard,
            _ => {
                (0..count).for_each(part);
                return;
            }
        };
        // SAFETY: only the lifetime changes; `close` below waits for everybody who may use it.
        let part = unsafe { std::mem::transmute::<&Part<'_>, &'static Part<'static>>(part) };
        let piece = Arc::new(Piece {
            part,
            count,
            next: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            panic: Mutex::new(None),
        });
        self.publish(&piece);
        piece.work();
        self.close(&piece);
        let panic = lock(&piece.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &mut self.workers {
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // Parts' panics are caught; there is nothing to hear.
                let _ = handle.join();
            }
        }
    }
}

/// A worker's life.
fn serve(shared: &Shared, parked: &AtomicBool) {
    let mut seen = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let generation = shared.generation.load(Ordering::Acquire);
        if generation == seen {
            wait(shared, parked, seen);
            continue;
        }
        seen = generation;
        if let Some(piece) = enter(shared) {
            piece.work();
            piece.inside.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Counted in while the lock is held, so that `close` either sees us or we see no piece.
fn enter(shared: &Shared) -> Option<Arc<Piece>> {
    let open = lock(&shared.open);
    let piece = open.as_ref()?;
    piece.inside.fetch_add(1, Ordering::AcqRel);
    Some(Arc::clone(piece))
}

/// Until there is a new piece or the end.
fn wait(shared: &Shared, parked: &AtomicBool, seen: u64) {
    let is_over =
        || shared.generation.load(Ordering::SeqCst) != seen || shared.stop.load(Ordering::SeqCst);
    let until = Instant::now() + SPIN;
    while Instant::now() < until {
        for _ in 0..SPINS_PER_LOOK {
            if is_over() {
                return;
            }
            std::hint::spin_loop();
        }
    }
    parked.store(true, Ordering::SeqCst);
    // Looked at after the flag is set: a piece published before is seen here, one published after sees the flag.
    while !is_over() && parked.load(Ordering::SeqCst) {
        std::thread::park();
    }
    parked.store(false, Ordering::SeqCst);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use model::parallel::Parallel;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn counts(pool: &Pool, count: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        pool.run(count, &|index| {
            counts[index].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_part_runs_once() {
        let pool = Pool::start(3).unwrap();
        for count in (0..200).chain([5000]) {
            assert_eq!(counts(&pool, count), vec![1; count]);
            // Long enough for workers to park, now and then.
            if count.is_multiple_of(50) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn several_callers_do_not_disturb_each_other() {
        let pool = Pool::start(3).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for count in 0..300 {
                        assert_eq!(counts(&pool, count), vec![1; count]);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_comes_out_and_the_threads_live_on() {
        let pool = Pool::start(2).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            pool.run(100, &|index| assert_ne!(index, 57, "part 57"));
        }));
        assert!(panicked.is_err());
        assert_eq!(counts(&pool, 100), vec![1; 100]);
    }
}
