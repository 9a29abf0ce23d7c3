/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The old way, as a model to compare with: the whole budget is mapped and
 * touched at the start, one seventh for each class, a free list for each
 * class; nothing moves between classes and nothing is ever given back.
 * The caches of the model are in ingest_cache_before.c.
 */
#include "ingest_memory.h"

#include <errno.h>
#include <pthread.h>
#include <seg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct shelf {			/* one class */
	char *base;
	size_t bytes;		/* of the mapping, a multiple of the next */
	size_t slice;
	void **free;		/* a stack */
	size_t count;
	size_t total;
};

struct state {
	uint64_t limit;
	unsigned wait_ms;
	pthread_mutex_t lock;	/* protects the rest; innermost */
	pthread_cond_t back;	/* something was released */
	struct shelf shelves[SEG_CLASSES];
	struct figures figures;
};

struct mem_page {
	struct state *state;
	void *part[MEM_PARTS];
};

struct pair {
	uint64_t key;
	struct mem_page *complete;
	struct mem_page *modified;
};

struct mem_log {
	struct pair *pairs;
	size_t count;
	size_t capacity;
};

static int shelf_open(struct shelf *shelf, unsigned class, uint64_t share)
{
	size_t i;

	shelf->slice = (size_t)SEG_MIN_BYTES << class;
	shelf->total = share / shelf->slice;
	shelf->bytes = shelf->total * shelf->slice;
	shelf->free = calloc(shelf->total + 1, sizeof(*shelf->free));
	if (!shelf->free || !shelf->total)
		return -ENOMEM;
	shelf->base = mmap(NULL, shelf->bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (shelf->base == MAP_FAILED) {
		shelf->base = NULL;
		return -ENOMEM;
	}
	for (i = 0; i < shelf->total; i++)
		shelf->free[i] = shelf->base + i * shelf->slice;
	shelf->count = shelf->total;
	return 0;
}

static const char *memory_close(void *arg)
{
	struct state *state = arg;
	unsigned i;

	for (i = 0; i < SEG_CLASSES; i++) {
		if (state->shelves[i].base)
			munmap(state->shelves[i].base,
			       state->shelves[i].bytes);
		free(state->shelves[i].free);
	}
	pthread_cond_destroy(&state->back);
	pthread_mutex_destroy(&state->lock);
	free(state);
	return NULL;
}

static int memory_open(const struct mem_options *options, void **ret_state)
{
	struct state *state = calloc(1, sizeof(*state));
	unsigned i;
	int rc;

	if (!state)
		return -ENOMEM;
	state->limit = options->budget_bytes;
	state->wait_ms = options->wait_ms;
	pthread_mutex_init(&state->lock, NULL);
	cond_open(&state->back);
	for (i = 0; i < SEG_CLASSES; i++) {
		rc = shelf_open(&state->shelves[i], i,
				state->limit / SEG_CLASSES);
		if (rc) {
			memory_close(state);
			return rc;
		}
		state->figures.mapped += state->shelves[i].bytes;
	}
	state->figures.regions = state->figures.regions_mapped = SEG_CLASSES;
	*ret_state = state;
	return 0;
}

static struct shelf *shelf_for(struct state *state, size_t bytes)
{
	unsigned i;

	for (i = 0; i < SEG_CLASSES; i++)
		if (bytes <= state->shelves[i].slice)
			return &state->shelves[i];
	return NULL;
}

static struct shelf *shelf_of(struct state *state, const void *segment)
{
	const char *at = segment;
	unsigned i;

	for (i = 0; i < SEG_CLASSES; i++) {
		struct shelf *shelf = &state->shelves[i];

		if (at >= shelf->base && at < shelf->base + shelf->bytes)
			return shelf;
	}
	return NULL;
}

/* Waits for a slice of the class, the lock held; false: none came. */
static bool shelf_wait(struct state *state, struct shelf *shelf)
{
	struct timespec until = time_in_ms(state->wait_ms);
	int rc = 0;

	state->figures.waits++;
	while (!shelf->count && rc == 0)
		rc = pthread_cond_timedwait(&state->back, &state->lock,
					    &until);
	return shelf->count > 0;
}

static void *segment_alloc(void *arg, size_t bytes)
{
	struct state *state = arg;
	struct shelf *shelf = shelf_for(state, bytes);
	void *segment = NULL;

	if (!shelf)
		return NULL;
	pthread_mutex_lock(&state->lock);
	if (shelf->count || shelf_wait(state, shelf)) {
		segment = shelf->free[--shelf->count];
		state->figures.active++;
		state->figures.active_bytes += shelf->slice;
		state->figures.allocations++;
		state->figures.allocations_of[shelf - state->shelves]++;
	} else {
		state->figures.refusals++;
	}
	pthread_mutex_unlock(&state->lock);
	return segment;
}

static int segment_release(void *arg, void *segment)
{
	struct state *state = arg;
	struct shelf *shelf = shelf_of(state, segment);

	if (!shelf)
		return segment ? -EINVAL : 0;
	pthread_mutex_lock(&state->lock);
	shelf->free[shelf->count++] = segment;
	state->figures.active--;
	state->figures.active_bytes -= shelf->slice;
	state->figures.releases++;
	pthread_cond_broadcast(&state->back);
	pthread_mutex_unlock(&state->lock);
	return 0;
}

static int page_release(struct mem_page *page)
{
	unsigned i;

	if (!page)
		return 0;
	for (i = 0; i < MEM_PARTS; i++)
		segment_release(page->state, page->part[i]);
	free(page);
	return 0;
}

static int page_create(void *arg, const size_t *bytes, unsigned parts,
		       struct mem_page **ret_page)
{
	struct mem_page *page = calloc(1, sizeof(*page));
	unsigned i;

	if (!page)
		return -ENOMEM;
	page->state = arg;
	for (i = 0; i < parts; i++) {
		page->part[i] = segment_alloc(arg, bytes[i]);
		if (!page->part[i]) {
			page_release(page);
			return -ENOMEM;
		}
	}
	*ret_page = page;
	return 0;
}

static void *page_part(const struct mem_page *page, unsigned part)
{
	return page->part[part];
}

static size_t page_part_bytes(const struct mem_page *page, unsigned part)
{
	return shelf_of(page->state, page->part[part])->slice;
}

static int page_grow(struct mem_page *page, unsigned part, size_t bytes)
{
	size_t old = page_part_bytes(page, part);
	void *segment;

	if (bytes <= old)
		return 0;
	segment = segment_alloc(page->state, bytes);
	if (!segment)
		return -ENOMEM;
	memcpy(segment, page->part[part], old);
	segment_release(page->state, page->part[part]);
	page->part[part] = segment;
	return 0;
}

static int log_create(void *arg, size_t pairs, struct mem_log **ret_log)
{
	struct mem_log *log = calloc(1, sizeof(*log));

	(void)arg;
	if (!log)
		return -ENOMEM;
	log->capacity = pairs;
	log->pairs = calloc(pairs, sizeof(*log->pairs));
	if (!log->pairs) {
		free(log);
		return -ENOMEM;
	}
	*ret_log = log;
	return 0;
}

static int log_put(struct mem_log *log, uint64_t key, struct mem_page *complete,
		   struct mem_page *modified)
{
	if (log->count == log->capacity)
		return -ENOMEM;
	log->pairs[log->count++] = (struct pair){ key, complete, modified };
	return 0;
}

static size_t log_count(const struct mem_log *log)
{
	return log->count;
}

static int log_abort(struct mem_log *log)
{
	for (; log->count; log->count--) {
		page_release(log->pairs[log->count - 1].complete);
		page_release(log->pairs[log->count - 1].modified);
	}
	return 0;
}

static int log_commit(struct mem_log *log, mem_write_fn *write, void *ctx)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < log->count && rc == 0; i++)
		rc = write(ctx, log->pairs[i].key, log->pairs[i].complete,
			   log->pairs[i].modified);
	return rc ? rc : log_abort(log);
}

static void log_destroy(struct mem_log *log)
{
	if (!log)
		return;
	log_abort(log);
	free(log->pairs);
	free(log);
}

static void figures(void *arg, struct figures *ret)
{
	struct state *state = arg;

	pthread_mutex_lock(&state->lock);
	*ret = state->figures;
	pthread_mutex_unlock(&state->lock);
	ret->limit = state->limit;
	ret->charged = ret->peak_charged = ret->peak_mapped = ret->mapped;
}

static void print_refusal(void *arg)
{
	(void)arg;	/* it kept no record of any */
}

const struct mem_ops mem_before = {
	.name = "the model of the old way",
	.open = memory_open,
	.close = memory_close,
	.page_create = page_create,
	.page_part = page_part,
	.page_part_bytes = page_part_bytes,
	.page_grow = page_grow,
	.page_release = page_release,
	.log_create = log_create,
	.log_put = log_put,
	.log_count = log_count,
	.log_commit = log_commit,
	.log_abort = log_abort,
	.log_destroy = log_destroy,
	.figures = figures,
	.print_refusal = print_refusal,
};
