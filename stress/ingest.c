/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The program.  A pass is: writers and a committer bring the whole input into
 * the store while readers read; then the readers verify every page; then all
 * threads end, and all segments must be back.  Exit status: 0 all promises
 * held, 1 not so, 2 bad usage, 130 interrupted (but finished cleanly).
 */
#include "ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ingest_options.h"
#include "ingest_report.h"
#include "ingest_timeline.h"

#define DECAY_MARGIN_MS 2000	/* beyond decay_ms, for a busy machine */

static _Atomic int interrupts;

/* ------------------------------------------------------------ stopping */

void job_fail(struct job *job, const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&job->lock);
	if (!job_failed(job)) {
		va_start(args, format);
		vsnprintf(job->message, sizeof(job->message), format, args);
		va_end(args);
		atomic_store_explicit(&job->stop, JOB_FAILED,
				      memory_order_relaxed);
	}
	pthread_cond_broadcast(&job->changed);
	pthread_mutex_unlock(&job->lock);
	input_cut(&job->input);
}

void job_cut(struct job *job)
{
	int runs = JOB_RUNS;

	atomic_compare_exchange_strong_explicit(&job->stop, &runs, JOB_CUT,
						memory_order_relaxed,
						memory_order_relaxed);
	input_cut(&job->input);
}

void job_changed(struct job *job)
{
	pthread_mutex_lock(&job->lock);
	pthread_cond_broadcast(&job->changed);
	pthread_mutex_unlock(&job->lock);
}

void job_gate(struct job *job)
{
	pthread_mutex_lock(&job->gate);
	tally_add(&job->tally.gated, 1);
}

void job_ungate(struct job *job)
{
	pthread_mutex_unlock(&job->gate);
}

void job_tick(struct job *job, uint64_t now)
{
	int signals = atomic_load_explicit(&interrupts, memory_order_relaxed);
	uint64_t limit = job->options->seconds * UINT64_C(1000000000);

	/* timeout(1) sends two for one */
	if (signals > 2)
		job_fail(job, "interrupted again and again, given up");
	else if (signals || (limit && now - job->start_ns > limit))
		job_cut(job);
}

static void on_interrupt(int number)
{
	(void)number;
	atomic_fetch_add_explicit(&interrupts, 1, memory_order_relaxed);
}

static void on_bus_error(int number)
{
	static const char text[] =
		"ingest: an input file became shorter while it was read\n";

	(void)number;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(3);
	_exit(1);
}

static void catch_signals(void)
{
	struct sigaction interrupt = { .sa_handler = on_interrupt,
				       .sa_flags = SA_RESTART };
	struct sigaction bus = { .sa_handler = on_bus_error };

	sigaction(SIGINT, &interrupt, NULL);
	sigaction(SIGTERM, &interrupt, NULL);
	sigaction(SIGBUS, &bus, NULL);
	signal(SIGXFSZ, SIG_IGN);	/* EFBIG is a message, this is not */
}

/* --------------------------------------------------------------- a pass */

struct crew {
	struct worker *workers;
	pthread_t *threads;
	unsigned count;
};

static bool crew_start(struct crew *crew, struct job *job, unsigned count,
		       unsigned first, void *(*run)(void *))
{
	uint64_t pass = tally_get(&job->tally.passes);

	crew->workers = calloc(count, sizeof(*crew->workers));
	crew->threads = calloc(count, sizeof(*crew->threads));
	for (crew->count = 0; crew->count < count; crew->count++) {
		struct worker *worker = &crew->workers[crew->count];
		unsigned number = first + crew->count;

		if (!crew->workers || !crew->threads)
			break;
		*worker = (struct worker){ job, number,
			input_mix(job->options->seed + (pass << 32) + number) };
		if (pthread_create(&crew->threads[crew->count], NULL, run,
				   worker))
			break;
	}
	if (crew->count < count)
		job_fail(job, "no memory for a thread");
	return crew->count == count;
}

static void crew_join(struct crew *crew)
{
	while (crew->count)
		pthread_join(crew->threads[--crew->count], NULL);
	free(crew->workers);
	free(crew->threads);
}

static void begin_pass(struct job *job)
{
	input_rewind(&job->input);
	store_reset(&job->store);
	atomic_store_explicit(&job->phase, JOB_INGESTS, memory_order_relaxed);
	atomic_store_explicit(&job->verify_next, 0, memory_order_relaxed);
	atomic_store_explicit(&job->cover, 0, memory_order_relaxed);
	atomic_store_explicit(&job->cover_bytes, 0, memory_order_relaxed);
}

/* The writers until they and the committer have nothing left. */
static void ingest(struct job *job)
{
	uint64_t since = now_ns();
	struct crew writers;

	crew_start(&writers, job, job->options->writers, 0, writer_run);
	crew_join(&writers);
	committer_finish(&job->committer);
	tally_add(&job->tally.ingest_ns, now_ns() - since);
}

static void verify(struct job *job, struct crew *readers)
{
	uint64_t since = now_ns();

	/* release -> reader_run() */
	atomic_store_explicit(&job->phase, JOB_VERIFIES, memory_order_release);
	job_changed(job);
	crew_join(readers);
	tally_add(&job->tally.verify_ns, now_ns() - since);
}

/* Every byte that was taken came back equal, exactly once. */
static void check_cover(struct job *job)
{
	uint64_t taken = input_taken(&job->input);
	uint64_t bytes = tally_get(&job->cover_bytes);

	if (bytes != taken)
		job_fail(job, "%llu bytes were ingested, %llu verified",
			 (unsigned long long)taken, (unsigned long long)bytes);
	if (tally_get(&job->cover) != input_cover(0, taken))
		job_fail(job, "the verified records do not cover the input");
}

/* No segment is out, and none was counted twice or not at all. */
static void check_drained(struct job *job)
{
	struct figures f;

	if (job->options->before)
		return;		/* the caches of the old way keep theirs */
	job->mem->ops->figures(job->mem->state, &f);
	if (f.active || f.active_bytes)
		job_fail(job, "%llu segments are still out after the drain",
			 (unsigned long long)f.active);
	if (f.allocations != f.releases)
		job_fail(job, "%llu allocations, but %llu releases",
			 (unsigned long long)f.allocations,
			 (unsigned long long)f.releases);
	if (f.misuses)
		job_fail(job, "the library reports %llu misuses",
			 (unsigned long long)f.misuses);
}

static void run_pass(struct job *job)
{
	struct crew readers;

	begin_pass(job);
	if (committer_start(&job->committer, job)) {
		job_fail(job, "no memory for the committer");
		return;
	}
	crew_start(&readers, job, job->options->readers,
		   job->options->writers, reader_run);
	ingest(job);
	verify(job, &readers);
	if (!job_failed(job))
		check_cover(job);
	caches_clear(job);
	check_drained(job);
	tally_add(&job->tally.passes, 1);
}

static void run_passes(struct job *job)
{
	do
		run_pass(job);
	while (job->options->seconds &&
	       atomic_load_explicit(&job->stop, memory_order_relaxed) ==
		       JOB_RUNS);
}

/* -------------------------------------------------------------- the end */

static uint64_t mapped_now(struct job *job)
{
	struct figures f;

	job->mem->ops->figures(job->mem->state, &f);
	return f.mapped;
}

/* All regions must go by themselves within the stated time. */
static void await_decay(struct job *job, struct ending *ending)
{
	unsigned limit_ms = job->options->decay_ms +
			    (job->options->before ? 0 : DECAY_MARGIN_MS);
	struct timespec pause = { .tv_nsec = 10000000 };
	uint64_t since = now_ns();

	atomic_store_explicit(&job->phase, JOB_DECAYS, memory_order_relaxed);
	ending->drained = mapped_now(job);
	do {
		ending->decayed = mapped_now(job);
		ending->decay_ms = (double)(now_ns() - since) / 1e6;
		if (!ending->decayed)
			return;
		nanosleep(&pause, NULL);
	} while (ending->decay_ms < limit_ms);
	if (!job->options->before)
		job_fail(job, "%llu bytes are still mapped %u ms after the "
			 "drain", (unsigned long long)ending->decayed,
			 limit_ms);
}

/* What is drawn and written of the samples; opened before the run. */
struct pictures {
	struct timeline overlay;
	FILE *csv;
	FILE *svg;
};

static void write_pictures(struct job *job, const struct timeline *timeline,
			   struct pictures *pictures)
{
	const struct options *o = job->options;
	int rc;

	rc = pictures->csv ? timeline_write_csv(timeline, pictures->csv) : 0;
	if (rc)
		job_fail(job, "%s: %s", o->csv, strerror(-rc));
	rc = pictures->svg ? svg_write(timeline, &pictures->overlay,
				       pictures->svg) : 0;
	if (rc)
		job_fail(job, "%s: %s", o->svg, strerror(-rc));
	pictures->csv = pictures->svg = NULL;
}

static void run(struct job *job, struct pictures *pictures)
{
	struct timeline timeline = { 0 };
	struct ending ending = { 0 };

	job->start_ns = now_ns();
	if (timeline_start(&timeline, job)) {
		job_fail(job, "no memory for the sampler");
		return;
	}
	run_passes(job);
	timeline.job_end_ms = (double)(now_ns() - job->start_ns) / 1e6;
	/* how the old way ends is what one wants to see of it */
	if (!job_failed(job) || job->options->before)
		await_decay(job, &ending);
	timeline_stop(&timeline);
	if (!job_failed(job) || job->options->before)
		report(job, &timeline, &ending);
	write_pictures(job, &timeline, pictures);
	timeline_free(&timeline);
}

/* ------------------------------------------------------ open and close */

static bool say(const char *what, const char *why)
{
	fprintf(stderr, "ingest: %s: %s\n", what, why);
	return false;
}

/* For the library's events; nothing is written until there is one. */
static bool open_log(const struct options *o, FILE **ret)
{
	int rc = o->log ? stream_open(o->log, NULL, ret) : 0;

	return rc == 0 || say(o->log, strerror(-rc));
}

static bool open_overlay(const struct options *o, struct timeline *overlay)
{
	int rc = o->overlay ? timeline_read_csv(overlay, o->overlay) : 0;

	return rc == 0 || say(o->overlay, rc == -EINVAL ?
			      "is not a timeline CSV, as --csv writes it" :
			      strerror(-rc));
}

static bool open_pictures(const struct options *o, struct pictures *pictures)
{
	int rc;

	if (!open_overlay(o, &pictures->overlay))
		return false;
	rc = o->csv ? timeline_open_csv(o->csv, &pictures->csv) : 0;
	if (rc)
		return say(o->csv, strerror(-rc));
	rc = o->svg ? svg_open(o->svg, &pictures->svg) : 0;
	return rc == 0 || say(o->svg, strerror(-rc));
}

/* The files are still open where there was no run. */
static void close_pictures(struct pictures *pictures)
{
	if (pictures->csv)
		fclose(pictures->csv);
	if (pictures->svg)
		fclose(pictures->svg);
	timeline_free(&pictures->overlay);
}

static bool open_memory(struct job *job, struct mem *mem, FILE *log)
{
	const struct options *o = job->options;
	struct mem_options options = {
		.budget_bytes = o->budget_bytes,
		.decay_ms = o->decay_ms,
		.wait_ms = o->wait_ms,
		.log = log,
		.log_segments = o->log_segments,
	};
	int rc;

	mem->all_classes = o->all_classes;
	mem->dice = o->seed;
	mem->ops = o->before ? &mem_before : &mem_seg;
	mem->cache_ops = o->before ? &cache_before : &cache_seg;
	rc = mem->ops->open(&options, &mem->state);
	if (rc)
		return say("cannot make the pool", strerror(-rc));
	job->mem = mem;
	rc = caches_open(job, log);
	if (rc == 0)
		return true;
	mem->ops->close(mem->state);
	return say("cannot make the caches", strerror(-rc));
}

static bool open_input(struct job *job)
{
	const struct options *o = job->options;
	const char *name, *why;

	return input_open(&job->input, o->files, o->file_count, &name, &why) ||
	       say(name, why);
}

static bool open_store(struct job *job)
{
	int rc = store_open(&job->store, job->options->store);

	return rc == 0 || say(job->options->store ? job->options->store
						  : "temporary store",
			      strerror(-rc));
}

static void close_memory(struct job *job, FILE *log)
{
	const char *wrong = caches_close(job);
	int rc;

	if (wrong)
		job_fail(job, "%s", wrong);
	wrong = job->mem->ops->close(job->mem->state);
	if (wrong)
		job_fail(job, "%s", wrong);
	rc = log ? stream_close(log) : 0;
	if (rc)
		job_fail(job, "%s: %s", job->options->log, strerror(-rc));
}

static int finish(struct job *job)
{
	int signals = atomic_load_explicit(&interrupts, memory_order_relaxed);
	unsigned long long bytes = tally_get(&job->tally.verified_bytes);

	if (job_failed(job)) {
		fprintf(stderr, "ingest: FAILED: %s\n", job->message);
		return 1;
	}
	if (signals) {
		fprintf(stderr, "ingest: interrupted, and finished cleanly: "
			"%llu bytes were ingested and verified, all segments "
			"were given back\n", bytes);
		return 130;
	}
	printf(job->options->before ?
	       "  every byte equal; but nothing was ever given back\n" :
	       "  all promises held\n");
	return 0;
}

/* What stdout did not take must not look like success. */
static int end_stdout(int status)
{
	int rc = stream_close(stdout);

	if (rc == 0 || status)
		return status;
	say("stdout", strerror(-rc));
	return 1;
}

static int run_with_memory(struct job *job, struct pictures *pictures)
{
	struct mem mem = { 0 };
	FILE *log = NULL;
	int rc;

	if (!open_log(job->options, &log))
		return 1;
	if (!open_memory(job, &mem, log)) {
		if (log)
			fclose(log);
		return 1;
	}
	rc = report_start(job);
	if (rc)
		job_fail(job, "stdout: %s", strerror(-rc));
	else
		run(job, pictures);
	close_memory(job, log);
	return finish(job);
}

static int run_with_files(struct job *job)
{
	struct pictures pictures = { 0 };
	int status = 1;

	if (open_input(job) && open_pictures(job->options, &pictures) &&
	    open_store(job))
		status = run_with_memory(job, &pictures);
	close_pictures(&pictures);
	store_close(&job->store);
	input_close(&job->input);
	return status;
}

int main(int argc, char **argv)
{
	struct options options;
	struct job job = { .options = &options, .store = { .fd = -1 } };
	int status = 1;

	/* or the first file that is opened would become stdout */
	if (fcntl(STDOUT_FILENO, F_GETFD) < 0) {
		say("stdout", strerror(errno));
		return 1;
	}
	if (!options_parse(&options, argc, argv, &status))
		return end_stdout(status);
	pthread_mutex_init(&job.gate, NULL);
	pthread_mutex_init(&job.lock, NULL);
	cond_open(&job.changed);
	catch_signals();
	status = run_with_files(&job);
	pthread_cond_destroy(&job.changed);
	pthread_mutex_destroy(&job.lock);
	pthread_mutex_destroy(&job.gate);
	return end_stdout(status);
}
