/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One execution of a scenario: threads are fibers, one runs at a time, and who
 * goes on at a scheduling point is decided here, by one of three searches.
 *
 * Setup and post-check run on a fiber of their own, outside of all threads:
 * there operations act at once, on the newest stores.
 */
#include "engine.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STEPS = 1500, MAX_OUTSIDE = 20000, MAX_CHOICES = 4096, CHANGES = 3 };

struct engine engine;

static struct {
	const struct explore_scenario *scenario;
	struct search search;
	struct fiber host;		/* engine_execute() */
	struct fiber outside;		/* setup and post-check */
	void (*outside_job)(void);
	enum verdict verdict;
	unsigned steps, outside_steps, preemptions, oddities;
	uint64_t random;
	unsigned change[CHANGES];	/* PCT: the steps that lower a thread */
} run;

/* DFS: the decisions of this execution, and how many there were to take. */
static struct {
	uint8_t taken[MAX_CHOICES];
	uint8_t of[MAX_CHOICES];
	unsigned length, at;
} path;

static _Alignas(64) char stacks[EXPLORE_THREADS + 1][FIBER_STACK_BYTES];
static _Alignas(64) char signal_stack[4 * FIBER_STACK_BYTES];

/* ---- decisions ---- */

static uint64_t next_random(void)
{
	uint64_t x = run.random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	run.random = x;
	return x >> 16;
}

static unsigned choose(unsigned n)
{
	if (n <= 1)
		return 0;
	if (run.search.mode != SEARCH_DFS)
		return (unsigned)(next_random() % n);
	if (path.at == path.length) {
		if (path.length == MAX_CHOICES)
			abort();
		path.taken[path.length] = 0;
		path.of[path.length++] = (uint8_t)n;
	}
	return path.taken[path.at++];
}

void engine_first_path(void)
{
	path.length = 0;
}

bool engine_next_path(void)
{
	path.length = path.at;
	while (path.length &&
	       path.taken[path.length - 1] + 1 == path.of[path.length - 1])
		path.length--;
	if (!path.length)
		return false;
	path.taken[path.length - 1]++;
	return true;
}

unsigned engine_odd(unsigned n)
{
	unsigned odd;

	if (run.search.mode == SEARCH_DFS &&
	    run.oddities >= run.search.oddities)
		return 0;
	odd = choose(n);
	run.oddities += odd != 0;
	return odd;
}

/* ---- who runs ---- */

static void leave(enum verdict verdict)
{
	run.verdict = verdict;
	if (engine.running)
		fiber_switch(&engine_self()->fiber, &run.host);
	else
		fiber_switch(&run.outside, &run.host);
	abort();
}

void explore_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(engine.why, sizeof(engine.why), format, args);
	va_end(args);
	leave(VERDICT_BROKEN);
}

void explore_die(const char *what)
{
	explore_fail("%s", what);
	abort();
}

static bool can_run(unsigned i)
{
	struct thread *t = &engine.thread[i];

	return !t->done && (!t->ready || t->ready(t->argument));
}

/* The current thread first, unless it has to step aside: then last. */
static unsigned candidates(unsigned *list, bool aside)
{
	unsigned n = 0;

	if (!aside && can_run(engine.current))
		list[n++] = engine.current;
	for (unsigned i = 0; i < engine.threads; i++)
		if (i != engine.current && can_run(i))
			list[n++] = i;
	if (aside && !n && can_run(engine.current))
		list[n++] = engine.current;
	return n;
}

static unsigned highest(const unsigned *list, unsigned n)
{
	unsigned best = list[0];

	for (unsigned i = 1; i < n; i++)
		if (engine.thread[list[i]].priority >
		    engine.thread[best].priority)
			best = list[i];
	return best;
}

static unsigned pick(const unsigned *list, unsigned n)
{
	bool preempts = list[0] == engine.current;
	unsigned k;

	if (run.search.mode == SEARCH_PCT)
		return highest(list, n);
	if (run.search.mode == SEARCH_DFS && preempts &&
	    run.preemptions >= run.search.preemptions)
		return list[0];
	k = choose(n);
	run.preemptions += preempts && k;
	return list[k];
}

static void go_to(unsigned next)
{
	unsigned from = engine.current;

	if (next == from)
		return;
	engine.thread[from].inside = *explore_inside();
	*explore_inside() = engine.thread[next].inside;
	engine.current = next;
	fiber_switch(&engine.thread[from].fiber, &engine.thread[next].fiber);
}

static struct frame *outer_frames;

struct frame **explore_frames(void)
{
	return engine.running ? &engine.thread[engine.current].frames :
				&outer_frames;
}

/* Nobody can run: time passes, if the scenario has time. */
static bool time_out(void)
{
	for (unsigned i = 0; explore_timeouts && i < engine.threads; i++) {
		struct thread *t = &engine.thread[i];

		if (!t->done && t->timed) {
			t->ready = NULL;
			t->timed = false;
			t->timed_out = true;
			return true;
		}
	}
	return false;
}

static void deadlock(void)
{
	const char *waits[EXPLORE_THREADS];
	unsigned n = 0;

	for (unsigned i = 0; i < EXPLORE_THREADS; i++)
		waits[i] = "";
	for (unsigned i = 0; i < engine.threads; i++)
		if (!engine.thread[i].done)
			waits[n++] = engine.thread[i].waits_for;
	explore_fail("deadlock: %s %s %s", waits[0], waits[1], waits[2]);
}

/* Goes on with somebody, be it the current thread. */
static void reschedule(bool aside)
{
	unsigned list[EXPLORE_THREADS];
	unsigned n = candidates(list, aside);

	if (!n && time_out())
		n = candidates(list, aside);
	if (!n)
		deadlock();
	go_to(pick(list, n));
}

static void count_step(void)
{
	if (++run.steps > MAX_STEPS)
		leave(VERDICT_PRUNED);
	if (run.search.mode != SEARCH_PCT)
		return;
	for (unsigned i = 0; i < CHANGES; i++)
		if (run.change[i] == run.steps)
			engine_self()->priority = -1 - (int)i;
}

/* Setup and post-check have no points, but an end. */
void engine_count_outside(void)
{
	if (++run.outside_steps > MAX_OUTSIDE)
		explore_fail("no end of the setup or the post-check");
}

void engine_point(void)
{
	count_step();
	reschedule(false);
}

void explore_pause(void)
{
	if (engine.running)
		engine_point();
}

void explore_yield(void)
{
	if (!engine.running)
		return;
	count_step();
	engine_self()->priority = -(int)(CHANGES + run.steps);
	reschedule(true);
}

void explore_wait(bool (*ready)(void *argument), void *argument,
		  const char *what)
{
	struct thread *t = engine_self();

	if (!engine.running) {
		if (!ready(argument))
			explore_fail("waits outside: %s", what);
		return;
	}
	t->ready = ready;
	t->argument = argument;
	t->waits_for = what;
	if (!ready(argument))
		reschedule(true);
	t->ready = NULL;
	t->timed = false;
}

void engine_trace(const struct explore_site *site, const char *how,
		  uint64_t value)
{
	if (engine.traced)
		printf("  %4u  thread %u  %-28s %4d  %-20s %s 0x%llx\n",
		       run.steps, engine.current, site->function, site->line,
		       site->op, how, (unsigned long long)value);
}

/* ---- one execution ---- */

static void thread_main(void)
{
	run.scenario->body(engine.current);
	engine_self()->done = true;
	for (unsigned i = 0; i < engine.threads; i++)
		if (!engine.thread[i].done)
			reschedule(true);
	leave(VERDICT_OK);
}

static void outside_main(void)
{
	run.outside_job();
	leave(VERDICT_OK);
}

static void start_threads(void)
{
	memset(engine.thread, 0, sizeof(engine.thread));
	engine.threads = run.scenario->threads;
	for (unsigned i = 0; i < engine.threads; i++) {
		engine.thread[i].now.at[i] = 1;
		engine.thread[i].priority = 1 + (int)(next_random() % 1000);
		fiber_start(&engine.thread[i].fiber, stacks[i], thread_main);
	}
	for (unsigned i = 0; i < CHANGES; i++)
		run.change[i] = 1 + (unsigned)(next_random() %
					       (run.search.length + 1));
}

static enum verdict run_outside(void (*job)(void))
{
	run.outside_job = job;
	engine.outside = 0;
	run.outside_steps = 0;
	engine.running = false;
	fiber_start(&run.outside, stacks[EXPLORE_THREADS], outside_main);
	fiber_switch(&run.host, &run.outside);
	return run.verdict;
}

static enum verdict run_threads(void)
{
	unsigned list[EXPLORE_THREADS] = { 0 };

	start_threads();
	for (unsigned i = 0; i < engine.threads; i++)
		list[i] = i;
	engine.current = run.search.mode == SEARCH_PCT ?
			 highest(list, engine.threads) :
			 choose(engine.threads);
	engine.running = true;
	fiber_switch(&run.host, &engine_self()->fiber);
	engine.running = false;
	return run.verdict;
}

/* A broken twin may go astray; then it is found, too. */
static void on_crash(int number)
{
	explore_fail(number == SIGABRT ? "aborted" : "crashed: signal %d",
		     number);
}

static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGABRT };
static struct sigaction before[4];

void engine_begin(void)
{
	const stack_t stack = { .ss_sp = signal_stack,
				.ss_size = sizeof(signal_stack) };
	struct sigaction action = { .sa_handler = on_crash,
				    .sa_flags = SA_ONSTACK | SA_NODEFER };

	sigaltstack(&stack, NULL);
	for (unsigned i = 0; i < 4; i++)
		sigaction(crashes[i], &action, &before[i]);
}

void engine_end(void)
{
	for (unsigned i = 0; i < 4; i++)
		sigaction(crashes[i], &before[i], NULL);
}

enum verdict engine_execute(const struct explore_scenario *scenario,
			    const struct search *search)
{
	enum verdict verdict;

	run.scenario = scenario;
	run.search = *search;
	run.steps = run.preemptions = run.oddities = path.at = 0;
	run.random = search->seed | 1;
	engine.execution++;
	memory_reset();
	world_reset();
	keeper_reset();
	*explore_inside() = false;
	outer_frames = NULL;
	verdict = run_outside(scenario->setup);
	if (verdict == VERDICT_OK)
		verdict = run_threads();
	if (verdict == VERDICT_OK && scenario->post)
		verdict = run_outside(scenario->post);
	return verdict;
}

bool engine_is_stack(const void *address)
{
	return (uintptr_t)address - (uintptr_t)stacks < sizeof(stacks);
}

unsigned explore_thread(void)
{
	return engine.running ? engine.current : engine.outside;
}

void explore_as(unsigned thread)
{
	engine.outside = thread;
}

unsigned engine_steps(void)
{
	return run.steps;
}
