/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads that run the same loop at the same time, and what an operation cost
 * them.  Each thread stays on one core, the cores in turn.
 *
 * In the counting build (SEG_COUNT_ATOMICS) "nanoseconds" are atomic
 * read-modify-writes of the library.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "segbench_work.h"

enum { RUNS = 3 };	/* measured ones, where there is a core for each */

static struct {
	_Alignas(64) atomic_uint arrived;	/* ever */
	unsigned threads;
	struct worker *workers;
	int runs;
	double figures[RUNS];
} stage;

#ifdef SEG_COUNT_ATOMICS
_Thread_local uint64_t seg_atomics_counted;

static double meter(void)
{
	return (double)seg_atomics_counted;
}
#else
static double meter(void)
{
	struct timespec now;

	if (!settings.cpu)
		return now_ns();
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}
#endif

/* Until all threads have come here so many times. */
static void meet(unsigned times)
{
	unsigned spins = 0;

	atomic_fetch_add(&stage.arrived, 1);
	while (atomic_load(&stage.arrived) < times * stage.threads)
		if (++spins % 1024 == 0 || (int)stage.threads > cores)
			sched_yield();
}

static void stay_on_a_core(int index)
{
	cpu_set_t all, one;
	int nth = index % cores;

	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && nth-- == 0)
			CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static void draw_sizes(struct worker *w)
{
	int kind = w->crew->kind;

	for (int i = 0; i < SIZES; i++)
		w->sizes[i] = class_bytes(kind != MIXED ? kind :
			(int)((draw(&w->random) >> 32) % SEG_CLASSES));
}

/* What the threads had of the cores, for each operation. */
static double figure_of_run(void)
{
	double sum = 0, first = stage.workers[0].began, last = 0;
	uint64_t operations = 0;

	for (unsigned i = 0; i < stage.threads; i++) {
		struct worker *w = &stage.workers[i];

		sum += w->ended - w->began;
		first = w->began < first ? w->began : first;
		last = w->ended > last ? w->ended : last;
		operations += w->operations;
	}
	if ((int)stage.threads > cores && !settings.cpu)
		sum = (last - first) * cores;
	return operations ? sum / (double)operations : 0;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned times = 0;

	stay_on_a_core(w->index);
	draw_sizes(w);
	if (w->crew->prepare)
		w->crew->prepare(w);
	for (w->run = 0; w->run < stage.runs; w->run++) {
		w->chunks = 0;
		meet(++times);
		w->until = now_ns() + settings.run_ns *
				      ((int)stage.threads > cores ? 2 : 1);
		w->began = meter();
		w->operations = w->crew->run(w);
		w->ended = meter();
		meet(++times);
		if (w->index == 0 && w->run > 0)
			stage.figures[w->run - 1] = figure_of_run();
	}
	if (w->index == 0 && stage.runs == 1)
		stage.figures[0] = figure_of_run();
	if (w->crew->finish)
		w->crew->finish(w);
	return NULL;
}

static void run_crew(struct crew *crew, int runs)
{
	pthread_t threads[THREADS_MOST];

	stage.threads = (unsigned)crew->threads;
	stage.runs = runs;
	atomic_store(&stage.arrived, 0);
	stage.workers = calloc(stage.threads, sizeof(*stage.workers));
	if (!stage.workers)
		die("calloc");
	for (int i = 0; i < crew->threads; i++) {
		stage.workers[i].crew = crew;
		stage.workers[i].index = i;
		stage.workers[i].random = (uint64_t)i * 2654435761 + 12345;
		errno = pthread_create(&threads[i], NULL, work,
				       &stage.workers[i]);
		if (errno)
			die("pthread_create");
	}
	for (int i = 0; i < crew->threads; i++)
		pthread_join(threads[i], NULL);
	free(stage.workers);
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/*
 * More threads than cores: the longer run is one, as what the scheduler does
 * at the ends of a run is no matter of the allocator's.
 */
double crew_figure(struct crew *crew)
{
	int measured = crew->threads > cores ? 1 : RUNS;

	if (settings.chunks)
		measured = 0;	/* the one run to warm up is all */
	run_crew(crew, 1 + measured);
	if (!measured)
		return stage.figures[0];
	qsort(stage.figures, (size_t)measured, sizeof(*stage.figures), compare);
	return stage.figures[measured / 2];
}

void crew_once(struct crew *crew)
{
	run_crew(crew, 1);
}
