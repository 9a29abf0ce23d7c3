/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See keeper.h.
 *
 * The mutex covers everything but the queue: the thread holds it while it
 * works, not while it sleeps.  So whoever has it (join, leave, flush, a fork)
 * knows that no work is half done.  No other lock nests inside.
 */
#include "keeper.h"

#include <errno.h>
#include <pthread.h>

#include "os.h"
#include "rcu.h"
#include "thread_slots.h"

enum {
	KEEPER_RETRY_NS = 10 * 1000 * 1000,
	KEEPER_START_NS = 1000 * 1000 * 1000,
};

static struct {
	struct work_queue queue;
	pthread_mutex_t lock;		/* see above; covers the rest */
	struct keeper_duty *duties;
	struct work *retry;		/* work that failed */
	pthread_t thread;
	uintptr_t generation;		/* of the thread that may work */
	struct atomic_u32 began;	/* the thread is past its start */
	struct atomic_u32 running;	/* 1: there is the thread */
	struct atomic_u32 wanted;	/* 1: by all duties, for ever */
} keeper = { .lock = PTHREAD_MUTEX_INITIALIZER };

static _Thread_local bool at_work;
static struct atomic_u64 process;

bool keeper_at_work(void)
{
	return at_work;
}

uint64_t keeper_process(void)
{
	return u64_load_relaxed(&process); /* relaxed: changes in a fork */
}

/* What failed before goes first: it is older. */
static struct work *take_work(void)
{
	struct work *fresh = work_queue_take_all(&keeper.queue);
	struct work **end = &keeper.retry;
	struct work *all;

	while (*end)
		end = &(*end)->next;
	*end = fresh;
	all = keeper.retry;
	keeper.retry = NULL;
	return all;
}

static void run_work(void)
{
	struct work *work = take_work();
	struct work **failed = &keeper.retry;

	if (work)
		rcu_wait_for_readers();
	at_work = true;
	while (work) {
		struct work *next = work->next;

		if (!work->run(work)) {
			work->next = NULL;
			*failed = work;
			failed = &work->next;
		}
		work = next;
	}
	at_work = false;
}

static uint64_t run_duties(uint64_t now)
{
	uint64_t soonest = OS_FOREVER;

	at_work = true;
	for (struct keeper_duty *d = keeper.duties; d; d = d->next) {
		uint64_t next = d->run(d, now);

		soonest = next < soonest ? next : soonest;
	}
	at_work = false;
	return soonest;
}

/* What the duties defer is done, too. */
static uint64_t work(void)
{
	uint64_t next = run_duties(os_now_ns());

	run_work();
	return keeper.retry && next > KEEPER_RETRY_NS ? KEEPER_RETRY_NS : next;
}

/* One round of work; false when this thread has been replaced or ended. */
static bool keeper_round(uintptr_t generation, uint64_t *ret_sleep_ns)
{
	bool stay;

	pthread_mutex_lock(&keeper.lock);
	stay = keeper.generation == generation;
	if (stay)
		*ret_sleep_ns = work();
	pthread_mutex_unlock(&keeper.lock);
	return stay;
}

static void *keeper_main(void *generation)
{
	uint32_t ticket = work_queue_ticket(&keeper.queue);
	uint64_t sleep_ns;

	/* release -> await_start() */
	u32_store_release(&keeper.began, 1);
	os_futex_wake_all(&keeper.began);
	while (keeper_round((uintptr_t)generation, &sleep_ns)) {
		work_queue_sleep(&keeper.queue, ticket, sleep_ns);
		ticket = work_queue_ticket(&keeper.queue);
	}
	return NULL;
}

/*
 * A thread's start allocates, outside any lock of ours; under AddressSanitizer
 * (gcc 12) a fork just then leaves the child an allocator that is locked for
 * ever.  So whoever forks finds the thread past it.  Not for ever: in a child
 * of a program whose own threads allocate, it may not get past.
 */
static void await_start(void)
{
	uint64_t now = os_now_ns();
	uint64_t until = now + KEEPER_START_NS;

	/* acquire <- keeper_main() */
	while (!u32_load_acquire(&keeper.began) && now < until) {
		os_futex_wait(&keeper.began, 0, until - now);
		now = os_now_ns();
	}
}

/* relaxed: under the lock; elsewhere it is a hint */
static bool is_running(void)
{
	return u32_load_relaxed(&keeper.running);
}

/* Under the lock. */
static void set_running(bool running)
{
	u32_store_relaxed(&keeper.running, running); /* relaxed: see above */
}

/* Under the lock. */
static int start_thread(void)
{
	int ret;

	u32_store_relaxed(&keeper.began, 0); /* relaxed: not started yet */
	ret = os_thread_start(&keeper.thread, keeper_main,
			      (void *)keeper.generation);
	if (!ret)
		await_start();
	set_running(!ret);
	return ret ? -EAGAIN : 0;
}

static void fork_prepare(void)
{
	pthread_mutex_lock(&keeper.lock);
	thread_slots_before_fork();
	rcu_before_fork();
}

static void fork_parent(void)
{
	rcu_after_fork_parent();
	thread_slots_after_fork();
	pthread_mutex_unlock(&keeper.lock);
}

/* If no thread can be had, deferred work waits for a flush, or a turn. */
static void fork_child(void)
{
	rcu_after_fork_child();
	thread_slots_forked();
	thread_slots_after_fork();
	u64_add_relaxed(&process, 1); /* relaxed: nobody else is there */
	for (struct keeper_duty *d = keeper.duties; d; d = d->next)
		if (d->forked)
			d->forked(d);
	if (is_running())
		start_thread();
	pthread_mutex_unlock(&keeper.lock);
}

static void register_fork_handlers(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* Nobody forks while the lock is taken, or the child could not take it. */
static void prepare_lock(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, register_fork_handlers);
}

static void take_lock(void)
{
	prepare_lock();
	pthread_mutex_lock(&keeper.lock);
}

/* Under the lock. */
static bool is_wanted(const struct keeper_duty *d)
{
	/* relaxed: under the lock */
	return u32_load_relaxed(&keeper.wanted) || !d->no_thread;
}

/* Under the lock. */
static bool needs_thread(void)
{
	for (struct keeper_duty *d = keeper.duties; d; d = d->next)
		if (is_wanted(d))
			return true;
	return false;
}

int keeper_join(struct keeper_duty *duty)
{
	int ret = 0;

	take_lock();
	if (!is_running() && is_wanted(duty))
		ret = start_thread();
	if (!ret) {
		duty->next = keeper.duties;
		keeper.duties = duty;
	}
	pthread_mutex_unlock(&keeper.lock);
	return ret;
}

int keeper_start(void)
{
	int ret = 0;

	/* relaxed: it is not taken back, so there is no need to wait */
	if (u32_load_relaxed(&keeper.wanted) && is_running())
		return ret;
	take_lock();
	if (keeper.duties && !is_running())
		ret = start_thread();
	if (!ret)
		u32_store_relaxed(&keeper.wanted, 1); /* relaxed: as above */
	pthread_mutex_unlock(&keeper.lock);
	return ret;
}

/*
 * The thread that is told to end sees another generation at its next round,
 * and does nothing more, even if a join has started a new one meanwhile.
 */
void keeper_leave(struct keeper_duty *duty)
{
	struct keeper_duty **at = &keeper.duties;
	pthread_t thread;
	bool ends;

	pthread_mutex_lock(&keeper.lock);
	while (*at != duty)
		at = &(*at)->next;
	*at = duty->next;
	ends = is_running() && !needs_thread();
	thread = keeper.thread;
	if (ends) {
		keeper.generation++;
		set_running(false);
	}
	pthread_mutex_unlock(&keeper.lock);
	if (ends) {
		keeper_kick();
		os_thread_join(thread);
	}
}

void keeper_defer(struct work *work)
{
	work_queue_push(&keeper.queue, work);
}

void keeper_kick(void)
{
	work_queue_kick(&keeper.queue);
}

void keeper_hold(void)
{
	take_lock();
}

void keeper_let_go(void)
{
	pthread_mutex_unlock(&keeper.lock);
}

/* Whoever finds the lock taken need not wait: somebody is at work. */
uint64_t keeper_turn(void)
{
	uint64_t next = OS_FOREVER;

	if (is_running())
		return next;
	prepare_lock();
	if (pthread_mutex_trylock(&keeper.lock))
		return KEEPER_RETRY_NS;
	if (!is_running())
		next = work();
	if (!work_queue_is_empty(&keeper.queue))
		next = 0;
	pthread_mutex_unlock(&keeper.lock);
	return next;
}

bool keeper_help(void)
{
	if (is_running())
		return false;
	if (!rcu_inside())
		keeper_turn();
	return true;
}

void keeper_flush(void)
{
	/* Who retires does so in a read section: now its work is queued. */
	rcu_wait_for_readers();
	pthread_mutex_lock(&keeper.lock);
	run_work();
	pthread_mutex_unlock(&keeper.lock);
}
