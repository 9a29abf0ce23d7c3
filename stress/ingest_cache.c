/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ingest_cache.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>

#include "ingest.h"
#include "ingest_leaf.h"

#define TAKE_TRIES 64		/* while readers pin it, then it is removed */
#define DEFERRED_MS 20000	/* for a grace period, however busy it is */

/* ------------------------------------------------------------- reading */

struct load {
	struct job *job;
	uint64_t key;		/* of the page */
	uint64_t tag;
	uint32_t number;	/* of the fragment */
	const struct page_entry *entry;
};

/* A mem_load_fn for PageCache. */
static int load_fragment(void *ctx, uint64_t key, struct mem_page **ret_page)
{
	const struct load *load = ctx;
	struct job *job = load->job;

	(void)key;
	return fragment_read(&job->store, job->mem, load->key, load->entry,
			     load->number, ret_page);
}

static void tag_pin(struct job *job, struct mem_pin *pin, uint64_t tag)
{
	int rc = job->mem->cache_ops->tag(pin, tag);

	/* -ENOMEM: the pin is held all the same */
	if (rc && rc != -ENOMEM)
		job_fail(job, "a pin could not be tagged: %s", strerror(-rc));
}

static int pin_fragments(struct load *load, struct mem_pin *pins,
			 uint32_t *ret_count)
{
	struct job *job = load->job;
	int rc = 0;

	for (*ret_count = 0; *ret_count < load->entry->fragments;) {
		load->number = *ret_count;
		rc = job->mem->cache_ops->get(
			job->caches.fragments,
			fragment_key(load->key, load->number), load_fragment,
			load, &pins[load->number]);
		if (rc)
			break;
		tag_pin(job, &pins[load->number], load->tag);
		(*ret_count)++;
	}
	return rc;
}

static int combine_pinned(struct job *job, const struct mem_pin *pins,
			  uint32_t count, struct mem_page **ret_page)
{
	struct mem_page *fragments[FRAGMENTS_MAX];
	uint32_t i;

	for (i = 0; i < count; i++)
		fragments[i] = job->mem->cache_ops->pinned(&pins[i]);
	return fragments_combine(job->mem, fragments, count,
				 job->options->records_per_page, ret_page);
}

/*
 * A mem_load_fn for RecordPageCache.  It asks the directory itself, when the
 * cache knows that it loads: see struct page_entry.
 */
static int load_page(void *ctx, uint64_t key, struct mem_page **ret_page)
{
	struct load *load = ctx;
	struct job *job = load->job;
	struct mem_pin pins[FRAGMENTS_MAX];
	struct page_entry entry;
	uint32_t count;
	int rc;

	store_entry(&job->store, key, &entry);
	load->entry = &entry;
	rc = pin_fragments(load, pins, &count);
	if (rc == 0)
		rc = combine_pinned(job, pins, count, ret_page);
	while (count)
		if (job->mem->cache_ops->unpin(&pins[--count]))
			job_fail(job, "a fragment could not be unpinned");
	return rc;
}

int caches_get(struct job *job, uint64_t key, uint64_t tag,
	       struct mem_pin *ret_pin)
{
	struct load load = { .job = job, .key = key, .tag = tag };
	int rc = job->mem->cache_ops->get(job->caches.pages, key, load_page,
					  &load, ret_pin);

	if (rc == 0)
		tag_pin(job, ret_pin, tag);
	return rc;
}

/* ------------------------------------------------------------- writing */

/* *ret_page is NULL: it is not there, or readers that pin it have it. */
static void take(struct job *job, struct mem_cache *cache, uint64_t key,
		 struct mem_page **ret_page)
{
	const struct mem_cache_ops *ops = job->mem->cache_ops;
	unsigned tries = TAKE_TRIES;
	int rc;

	*ret_page = NULL;
	while ((rc = ops->take(cache, key, ret_page)) == -EBUSY && --tries)
		sched_yield();
	if (rc == -EBUSY) {
		/* they keep it as long as they need, none finds it again */
		tally_add(&job->tally.take_removes, 1);
		rc = ops->remove(cache, key);
	}
	if (rc && rc != -ENOENT)
		job_fail(job, "a page could not be taken from its cache: %s",
			 strerror(-rc));
}

static void release(struct job *job, struct mem_page *page)
{
	if (job->mem->ops->page_release(page))
		job_fail(job, "a page could not be released");
}

/* What was not in the cache is read. */
static int need_fragments(struct job *job, uint64_t key,
			  const struct page_entry *entry,
			  struct mem_page **fragments)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < entry->fragments && rc == 0; i++)
		if (!fragments[i])
			rc = fragment_read(&job->store, job->mem, key, entry,
					   i, &fragments[i]);
	return rc;
}

int caches_take(struct job *job, uint64_t key, struct mem_page **ret_page)
{
	struct mem_page *fragments[FRAGMENTS_MAX] = { NULL };
	struct mem_page *page;
	struct page_entry entry;
	uint32_t i;
	int rc = 0;

	store_entry(&job->store, key, &entry);
	take(job, job->caches.pages, key, &page);
	for (i = 0; i < entry.fragments; i++)
		take(job, job->caches.fragments, fragment_key(key, i),
		     &fragments[i]);
	if (page)
		tally_add(&job->tally.taken_whole, 1);
	else
		rc = need_fragments(job, key, &entry, fragments);
	if (!page && rc == 0)
		rc = fragments_combine(job->mem, fragments, entry.fragments,
				       job->options->records_per_page, &page);
	for (i = 0; i < entry.fragments; i++)
		release(job, fragments[i]);
	if (rc == 0 && leaf_head(job->mem, page)->fragments != entry.fragments)
		job_fail(job, "page %" PRIu64 ": the cache gave another version"
			 " than the committed one", key);
	if (rc == 0)
		*ret_page = page;
	return rc;
}

void caches_changed(struct job *job, uint64_t key)
{
	int rc = job->mem->cache_ops->remove(job->caches.pages, key);

	if (rc && rc != -ENOENT)
		job_fail(job, "a page could not be removed from its cache: %s",
			 strerror(-rc));
}

/* ------------------------------------------------- begin and end of it */

static int open_one(struct job *job, const char *name, uint64_t max_weight,
		    bool short_reads, FILE *log, struct mem_cache **ret)
{
	struct mem_cache_options options = {
		.name = name,
		.max_weight = max_weight,
		.log = log,
		.short_reads = short_reads,
	};

	return job->mem->cache_ops->open(job->mem->state, &options, ret);
}

int caches_open(struct job *job, FILE *log)
{
	const struct options *o = job->options;
	int rc = open_one(job, "PageCache", o->page_cache_bytes, false, log,
			  &job->caches.fragments);

	if (rc)
		return rc;
	rc = open_one(job, "RecordPageCache", o->record_cache_bytes,
		      o->short_reads, log, &job->caches.pages);
	if (rc)
		job->mem->cache_ops->close(job->caches.fragments);
	return rc;
}

const char *caches_close(struct job *job)
{
	const char *pages = job->mem->cache_ops->close(job->caches.pages);
	const char *fragments =
		job->mem->cache_ops->close(job->caches.fragments);

	return pages ? pages : fragments;
}

/* With no call running the weight is what it should be. */
static void check_rest(struct job *job, struct mem_cache *cache,
		       const char *name)
{
	struct cache_figures f;

	job->mem->cache_ops->figures(cache, &f);
	if (f.pinned) {
		job->mem->cache_ops->print_pins(cache);
		job_fail(job, "%s: %" PRIu64 " bytes are still pinned", name,
			 f.pinned);
	}
	if (f.weight > f.max_weight)
		job_fail(job, "%s weighs %" PRIu64 " at rest, more than %"
			 PRIu64, name, f.weight, f.max_weight);
	if (f.misuses)
		job_fail(job, "%s reports %" PRIu64 " misuses", name,
			 f.misuses);
}

/* What left a cache with short reads goes after a grace period. */
static void await_deferred(struct job *job, struct mem_cache *cache)
{
	struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t since = now_ns();
	struct cache_figures f;

	do {
		job->mem->cache_ops->figures(cache, &f);
		if (!f.deferred)
			return;
		nanosleep(&pause, NULL);
	} while (now_ns() - since < DEFERRED_MS * UINT64_C(1000000));
}

static void check_clear(struct job *job, struct mem_cache *cache,
			const char *name)
{
	struct cache_figures f;

	await_deferred(job, cache);
	job->mem->cache_ops->figures(cache, &f);
	if (f.entries || f.weight || f.pinned || f.deferred)
		job_fail(job, "%s: %" PRIu64 " entries of %" PRIu64 " + %"
			 PRIu64 " + %" PRIu64 " bytes after it was cleared",
			 name, f.entries, f.weight, f.pinned, f.deferred);
	if (f.heard != f.released || f.heard_evicted !=
				     f.evictions + f.reclaims)
		job_fail(job, "%s: the listener heard of %" PRIu64 " pages, %"
			 PRIu64 " of them evicted; the figures say %" PRIu64
			 ", %" PRIu64, name, f.heard, f.heard_evicted,
			 f.released, f.evictions + f.reclaims);
}

void caches_clear(struct job *job)
{
	struct caches *c = &job->caches;

	check_rest(job, c->pages, "RecordPageCache");
	check_rest(job, c->fragments, "PageCache");
	job->mem->cache_ops->clear(c->pages);
	job->mem->cache_ops->clear(c->fragments);
	check_clear(job, c->pages, "RecordPageCache");
	check_clear(job, c->fragments, "PageCache");
}
