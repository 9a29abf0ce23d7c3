/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A writer packs records into pairs of pages, as a copy-on-write database
 * does: the complete page is the page as its own transaction sees it, the
 * modified one holds only what this epoch adds and becomes the next fragment.
 * Some pages are left open at the end of their share and continued two epochs
 * later: the page is taken out of the caches, or its fragments are and are
 * combined, and it is the new complete page.
 *
 * Two intent logs take turns: one is filled while the committer has the
 * other.  When memory is refused, the pages at hand go into the log, the log
 * to the committer, and the writer begins a new epoch with nothing in hand.
 */
#include "ingest.h"

#include <errno.h>
#include <string.h>

#include "ingest_leaf.h"

#define OPEN_MAX 64
#define HALVINGS 8

/* A page that waits for its next fragment. */
struct open_page {
	uint64_t key;
	unsigned fragments;	/* written */
	unsigned wanted;
	unsigned records;	/* that the whole page may have */
};

struct turn {
	struct handover handover;
	struct open_page open[OPEN_MAX];
	unsigned open_count;
};

struct writer {
	struct job *job;
	uint64_t random;
	struct span chunk;
	struct span record;	/* taken, not yet in a page */
	bool have_record;
	struct turn turns[2];
	struct turn *turn;
	struct open_page page;	/* what is being filled */
	bool page_is_new;
	struct mem_page *complete;
	struct mem_page *modified;
	bool gated;
	uint64_t done;		/* see commit_wait_any() */
	unsigned refused;	/* so many times with nothing in hand */
	uint64_t refused_ns;	/* and since then nothing was committed */
};

/* Makes sure that there is a record; false: the input is at its end. */
static bool need_record(struct writer *w)
{
	if (w->have_record)
		return true;
	if (!w->chunk.bytes && !input_take(&w->job->input, &w->chunk))
		return false;
	w->have_record = input_record(&w->chunk, &w->record);
	return w->have_record;
}

static void drop_pages(struct writer *w)
{
	const struct mem_ops *ops = w->job->mem->ops;

	if (w->complete && ops->page_release(w->complete))
		job_fail(w->job, "a page could not be released");
	if (w->modified && ops->page_release(w->modified))
		job_fail(w->job, "a page could not be released");
	w->complete = w->modified = NULL;
}

/* An empty pair.  Errors: -ENOMEM, nothing is held. */
static int create_pair(struct writer *w)
{
	unsigned records = w->job->options->records_per_page;
	int rc = leaf_create(w->job->mem, records, &w->complete);

	if (rc == 0)
		rc = leaf_create(w->job->mem, records, &w->modified);
	if (rc)
		drop_pages(w);
	return rc;
}

/* The committed page, and an empty one for what is new. */
static int load_pair(struct writer *w, const struct open_page *open)
{
	struct job *job = w->job;
	unsigned records = job->options->records_per_page;
	int rc = caches_take(job, open->key, &w->complete);

	if (rc == 0)
		rc = leaf_create(job->mem, records, &w->modified);
	if (rc)
		drop_pages(w);
	if (rc && rc != -ENOMEM)
		job_fail(job, "page %llu cannot be loaded: %s",
			 (unsigned long long)open->key, strerror(-rc));
	return rc;
}

/* Adds the record to both pages or to none. */
static int append_record(struct writer *w)
{
	struct mem *mem = w->job->mem;
	int rc = leaf_append(mem, w->complete, &w->record);

	if (rc)
		return rc;
	rc = leaf_append(mem, w->modified, &w->record);
	if (rc) {
		leaf_drop_last(mem, w->complete);
		return rc;
	}
	w->have_record = false;
	return 0;
}

/*
 * Fills the pair up to its share.  Errors: -ENOMEM, -ENOSPC the page is full,
 * -ENODATA there is no more input.
 */
static int fill_pair(struct writer *w)
{
	uint64_t share = (uint64_t)w->page.records * (w->page.fragments + 1) /
			 w->page.wanted;
	int rc = 0;

	while (rc == 0 && leaf_head(w->job->mem, w->complete)->records < share)
		rc = need_record(w) ? append_record(w) : -ENODATA;
	return rc;
}

/* A page that got its share, and not all it is to have, is continued. */
static void leave_open(struct writer *w)
{
	struct turn *turn = w->turn;

	w->page.fragments++;
	if (w->page.fragments < w->page.wanted && turn->open_count < OPEN_MAX)
		turn->open[turn->open_count++] = w->page;
}

static void count_pair(struct writer *w)
{
	const struct leaf_head *head = leaf_head(w->job->mem, w->modified);

	tally_add(&w->job->tally.records, head->records);
	tally_add(&w->job->tally.bytes, head->used);
	tally_add(&w->job->tally.pages, w->page_is_new);
	tally_add(&w->job->tally.reopened, !w->page_is_new);
}

/* Moves the pair into the log; without new records it is given back. */
static int put_pair(struct writer *w)
{
	struct job *job = w->job;
	int rc = 0;

	if (!leaf_head(job->mem, w->modified)->records) {
		drop_pages(w);
		return 0;
	}
	if (w->page_is_new)
		rc = store_new_page(&job->store, &w->page.key);
	if (rc == 0)
		rc = job->mem->ops->log_put(w->turn->handover.log, w->page.key,
					    w->complete, w->modified);
	if (rc) {
		drop_pages(w);
		job_fail(job, "a pair cannot be put into its intent log: %s",
			 strerror(-rc));
		return rc;
	}
	count_pair(w);
	w->complete = w->modified = NULL;
	return 0;
}

/* One pair from the input into the log.  Errors: as fill_pair(). */
static int fill_and_put(struct writer *w)
{
	int rc = fill_pair(w);
	int put = put_pair(w);

	if (put)
		return put;
	if (rc == 0)
		leave_open(w);
	return rc == -ENOSPC ? 0 : rc;
}

/* With all classes, half as many again and again, as the dice have it. */
static unsigned records_of_page(struct writer *w)
{
	unsigned records = w->job->options->records_per_page;

	if (w->job->options->all_classes)
		records >>= random_next(&w->random) % HALVINGS;
	return records ? records : 1;
}

/* Most pages are written whole, some in two or three fragments. */
static int new_page(struct writer *w)
{
	uint64_t dice = random_next(&w->random) % 16;
	int rc;

	if (!need_record(w))
		return -ENODATA;
	rc = create_pair(w);
	if (rc)
		return rc;
	w->page = (struct open_page){
		.wanted = dice < 11 ? 1 : dice < 14 ? 2 : FRAGMENTS_MAX,
		.records = records_of_page(w),
	};
	w->page_is_new = true;
	return fill_and_put(w);
}

/* Where memory is short, an open page stays as it is: it is committed. */
static int continue_pages(struct writer *w)
{
	struct open_page open[OPEN_MAX];
	unsigned i, count = w->turn->open_count;
	int rc = 0;

	memcpy(open, w->turn->open, count * sizeof(*open));
	w->turn->open_count = 0;
	for (i = 0; i < count && rc == 0; i++) {
		if (!need_record(w))
			return -ENODATA;
		rc = load_pair(w, &open[i]);
		w->page = open[i];
		w->page_is_new = false;
		if (rc == 0)
			rc = fill_and_put(w);
	}
	return rc;
}

static size_t pairs_in_log(struct writer *w)
{
	return w->job->mem->ops->log_count(w->turn->handover.log);
}

/* Ends the epoch: the log goes to the committer, the other one comes. */
static void hand_over(struct writer *w)
{
	struct committer *committer = &w->job->committer;
	struct turn *turn = w->turn;

	if (pairs_in_log(w)) {
		commit_submit(committer, &turn->handover);
		w->refused = 0;
		w->turn = turn == &w->turns[0] ? &w->turns[1] : &w->turns[0];
	}
	if (w->gated) {
		commit_wait(committer, &turn->handover);
		job_ungate(w->job);
		w->gated = false;
	}
}

/*
 * Memory was refused while this writer has none at all: it waits for a
 * commit, after a few times it goes on alone, and it gives up when nothing
 * moves for long.
 */
static void starve(struct writer *w)
{
	if (commit_wait_any(&w->job->committer, &w->done) || !w->refused)
		w->refused_ns = now_ns();
	else if (now_ns() - w->refused_ns > job_patience_ns(w->job))
		job_fail(w->job, w->job->options->before ?
			 OUT_OF_MEMORY :
			 "the budget is too small: "
			 "no memory for one pair of pages");
	if (++w->refused > 3 && !w->gated && !job_failed(w->job)) {
		job_gate(w->job);
		w->gated = true;
	}
}

/* False: there is no more input, or the job failed. */
static bool run_epoch(struct writer *w)
{
	/* one that goes alone must not keep the others out for long */
	size_t most = w->gated ? 1 : w->job->options->epoch;
	int rc;

	commit_wait(&w->job->committer, &w->turn->handover);
	rc = continue_pages(w);
	while (rc == 0 && pairs_in_log(w) < most)
		rc = new_page(w);
	if (rc == -ENOMEM && !pairs_in_log(w)) {
		starve(w);
		return !job_failed(w->job);
	}
	tally_add(&w->job->tally.early_commits, rc == -ENOMEM);
	hand_over(w);
	return (rc == 0 || rc == -ENOMEM) && !job_failed(w->job);
}

static bool open_logs(struct writer *w)
{
	const struct mem_ops *ops = w->job->mem->ops;
	unsigned i;
	int rc = 0;

	for (i = 0; i < 2 && rc == 0; i++)
		rc = ops->log_create(w->job->mem->state,
				     w->job->options->epoch + OPEN_MAX,
				     &w->turns[i].handover.log);
	if (rc)
		job_fail(w->job, "no intent log: %s", strerror(-rc));
	w->turn = &w->turns[0];
	return rc == 0;
}

void *writer_run(void *arg)
{
	struct worker *worker = arg;
	struct writer w = { .job = worker->job, .random = worker->seed };
	unsigned i;

	if (open_logs(&w))
		while (run_epoch(&w))
			;
	for (i = 0; i < 2; i++) {
		commit_wait(&w.job->committer, &w.turns[i].handover);
		w.job->mem->ops->log_destroy(w.turns[i].handover.log);
	}
	if (w.gated)
		job_ungate(w.job);
	return NULL;
}
