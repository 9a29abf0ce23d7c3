/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages and intent logs from libseg; the caches are in ingest_cache_seg.c. */
#include "ingest_memory_seg.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "ingest_memory.h"

#define MIB (1024.0 * 1024.0)

void write_event(void *ctx, enum seg_log_level level, const char *line)
{
	struct timespec now;

	(void)level;
	clock_gettime(CLOCK_MONOTONIC, &now);
	fprintf(ctx, "[%lld.%06ld] %s\n", (long long)now.tv_sec,
		now.tv_nsec / 1000, line);
}

static int open_pool(struct seg_state *state, const struct mem_options *options)
{
	struct seg_pool_options pool = {
		.size = sizeof(pool),
		.budget = state->budget,
		.decay_ms = options->decay_ms,
		.wait_ms = options->wait_ms ? (int)options->wait_ms
					    : SEG_NO_WAIT,
		.log = options->log ? write_event : NULL,
		.log_ctx = options->log,
		.log_level = options->log_segments ? SEG_LOG_SEGMENT
						   : SEG_LOG_REGION,
	};

	return seg_pool_create(&pool, &state->pool);
}

static int memory_open(const struct mem_options *options, void **ret_state)
{
	struct seg_budget_options budget = {
		.size = sizeof(budget),
		.limit_bytes = options->budget_bytes,
	};
	struct seg_state *state = calloc(1, sizeof(*state));
	int rc;

	if (!state)
		return -ENOMEM;
	rc = seg_budget_create(&budget, &state->budget);
	if (rc == 0)
		rc = open_pool(state, options);
	if (rc) {
		seg_budget_destroy(state->budget);
		free(state);
		return rc;
	}
	*ret_state = state;
	return 0;
}

static const char *memory_close(void *arg)
{
	struct seg_state *state = arg;
	const char *wrong = NULL;

	if (!seg_pool_is_valid(state->pool))
		wrong = "seg_pool_is_valid() found damage";
	if (seg_pool_destroy(state->pool))
		return "seg_pool_destroy() refused";
	if (seg_budget_destroy(state->budget))
		return "seg_budget_destroy() refused";
	free(state);
	return wrong;
}

static struct seg_page *page_of(const struct mem_page *page)
{
	return (struct seg_page *)page;
}

static struct seg_txlog *log_of(const struct mem_log *log)
{
	return (struct seg_txlog *)log;
}

static int page_create(void *arg, const size_t *bytes, unsigned parts,
		       struct mem_page **ret_page)
{
	struct seg_state *state = arg;
	struct seg_page *page;
	int rc = seg_page_create(state->pool, bytes, parts, &page);

	if (rc == 0)
		*ret_page = (struct mem_page *)page;
	return rc;
}

static void *page_part(const struct mem_page *page, unsigned part)
{
	return seg_page_part(page_of(page), part);
}

static size_t page_part_bytes(const struct mem_page *page, unsigned part)
{
	return seg_page_part_bytes(page_of(page), part);
}

static int page_grow(struct mem_page *page, unsigned part, size_t bytes)
{
	return seg_page_grow(page_of(page), part, bytes);
}

static int page_release(struct mem_page *page)
{
	return seg_page_release(page_of(page));
}

static int log_create(void *arg, size_t pairs, struct mem_log **ret_log)
{
	struct seg_txlog_options options = {
		.size = sizeof(options),
		.capacity = pairs,
	};
	struct seg_state *state = arg;
	struct seg_txlog *log;
	int rc = seg_txlog_create(state->pool, &options, &log);

	if (rc == 0)
		*ret_log = (struct mem_log *)log;
	return rc;
}

static int log_put(struct mem_log *log, uint64_t key, struct mem_page *complete,
		   struct mem_page *modified)
{
	return seg_txlog_put(log_of(log), key, page_of(complete),
			     page_of(modified));
}

static size_t log_count(const struct mem_log *log)
{
	return seg_txlog_count(log_of(log));
}

struct write_call {
	mem_write_fn *write;
	void *ctx;
};

static int write_pair(void *ctx, uint64_t key, const struct seg_page *complete,
		      const struct seg_page *modified)
{
	struct write_call *call = ctx;

	return call->write(call->ctx, key, (const struct mem_page *)complete,
			   (const struct mem_page *)modified);
}

static int log_commit(struct mem_log *log, mem_write_fn *write, void *ctx)
{
	struct write_call call = { write, ctx };

	return seg_txlog_commit(log_of(log), write_pair, &call);
}

static int log_abort(struct mem_log *log)
{
	return seg_txlog_abort(log_of(log));
}

static void log_destroy(struct mem_log *log)
{
	seg_txlog_destroy(log_of(log));
}

static void pool_figures(struct seg_state *state, struct figures *ret)
{
	struct seg_pool_stats pool = { .size = sizeof(pool) };

	if (seg_pool_stats(state->pool, SEG_ALL, SEG_ALL, &pool))
		return;
	ret->mapped = pool.mapped_bytes;
	ret->peak_mapped = pool.peak_mapped_bytes;
	ret->active = pool.active;
	ret->active_bytes = pool.active_bytes;
	ret->deferred = pool.deferred_bytes;
	ret->regions = pool.regions;
	ret->regions_mapped = pool.regions_mapped_total;
	ret->regions_unmapped = pool.regions_unmapped_total;
	ret->allocations = pool.allocations_total;
	ret->releases = pool.releases_total;
	ret->refusals = pool.refusals_total;
	ret->misuses = pool.misuses_total;
}

static void class_figures(struct seg_state *state, struct figures *ret)
{
	struct seg_pool_stats pool = { .size = sizeof(pool) };
	int c;

	for (c = 0; c < SEG_CLASSES; c++)
		if (!seg_pool_stats(state->pool, SEG_ALL, c, &pool))
			ret->allocations_of[c] = pool.allocations_total;
}

static void figures(void *arg, struct figures *ret)
{
	struct seg_budget_stats budget = { .size = sizeof(budget) };
	struct seg_state *state = arg;

	*ret = (struct figures){ 0 };
	pool_figures(state, ret);
	class_figures(state, ret);
	if (seg_budget_stats(state->budget, &budget))
		return;
	ret->limit = budget.limit_bytes;
	ret->charged = budget.charged_bytes;
	ret->peak_charged = budget.peak_charged_bytes;
	ret->waits = budget.waits_total;
}

void print_pin(const char *what, const struct seg_pin_info *pin)
{
	printf("    %s pin: tag %" PRIu64 ", key %" PRIu64 ", %" PRIu64
	       " bytes, held for %.3f ms\n", what, pin->tag, pin->key,
	       pin->weight, (double)pin->held_ns / 1e6);
}

static void print_refusal(void *arg)
{
	struct seg_refusal r = { .size = sizeof(r) };
	struct seg_state *state = arg;

	if (seg_pool_last_refusal(state->pool, &r))
		return;
	printf("  %-26s %" PRIu64 " bytes after %.1f ms; active %.1f, unused "
	       "%.1f, deferred %.1f MiB;\n%29scaches %.1f, pinned %.1f MiB, "
	       "tagged pins %" PRIu64 "\n", "last refusal recorded", r.bytes,
	       (double)r.waited_ns / 1e6, (double)r.active_bytes / MIB,
	       (double)r.unused_bytes / MIB, (double)r.deferred_bytes / MIB, "",
	       (double)r.cache_weight / MIB, (double)r.pinned_weight / MIB,
	       r.tagged_pins);
	if (r.tagged_pins)
		print_pin("longest", &r.longest[0]);
}

const struct mem_ops mem_seg = {
	.name = "libseg",
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
