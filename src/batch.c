/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  The rows of one request.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "batch.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

/*
 * A claim is a 64-bit hash of a key or an identifier.  Two that collide by
 * chance wait for each other without need; nothing else comes of it.
 */
typedef uint64 Claim;

/* set in those of users */
#define USER_CLAIM UINT64CONST(1)

static Claim
key_claim(const IsRow *row)
{
	return hash_bytes_extended((const unsigned char *) row->key,
							   (int) strlen(row->key), 1) & ~USER_CLAIM;
}

/* Iterable does not tell e-mail addresses apart by case. */
static Claim
email_claim(const char *email)
{
	char	   *folded = is_api_fold_email(email);
	Claim		claim = hash_bytes_extended((const unsigned char *) folded,
											(int) strlen(folded), 2);

	pfree(folded);
	return claim | USER_CLAIM;
}

static Claim
user_id_claim(const char *user_id)
{
	return hash_bytes_extended((const unsigned char *) user_id,
							   (int) strlen(user_id), 3) | USER_CLAIM;
}

/* All claims of a row; returns how many. */
static int
row_claims(const IsBatch *batch, const IsRow *row, Claim *claims)
{
	int			n = 0;

	claims[n++] = key_claim(row);
	if (batch->claims_users)
	{
		if (row->email)
			claims[n++] = email_claim(row->email);
		if (row->user_id)
			claims[n++] = user_id_claim(row->user_id);
		if (row->data_email)
			claims[n++] = email_claim(row->data_email);
		if (row->data_user_id)
			claims[n++] = user_id_claim(row->data_user_id);
	}
	return n;
}

#define MAX_ROW_CLAIMS 5

static HTAB *
create_claims(MemoryContext context)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Claim);
	ctl.entrysize = sizeof(Claim);
	ctl.hcxt = context;
	return hash_create("iterable_sync claims", 1024, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

IsBatch *
is_batch_create(IsEndpoint endpoint, const char *envelope, bool claims_users,
				IsPlace from)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "iterable_sync batch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IsBatch    *batch = palloc0(sizeof(IsBatch));

	batch->context = context;
	batch->endpoint = endpoint;
	batch->envelope = pstrdup(envelope);
	batch->claims_users = claims_users;
	batch->stretch.from = from;
	batch->stretch.to = from;
	batch->rows_size = 64;
	batch->rows = palloc(batch->rows_size * sizeof(IsBatchRow));
	initStringInfo(&batch->payloads);
	initStringInfo(&batch->body);
	batch->claimed = create_claims(context);
	batch->send_max = batch->send_limit = IS_MAX_BATCH_ROWS;
	batch->sent = palloc(IS_MAX_BATCH_ROWS * sizeof(int));
	MemoryContextSwitchTo(old);
	return batch;
}

void
is_batch_free(IsBatch *batch)
{
	MemoryContextDelete(batch->context);
}

static char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

static IsBatchRow *
append_row(IsBatch *batch, const IsRow *row, bool may_fail)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	IsBatchRow *new;

	if (batch->nrows == batch->rows_size)
	{
		batch->rows_size *= 2;
		batch->rows = repalloc_huge(batch->rows, batch->rows_size * sizeof(IsBatchRow));
	}
	new = &batch->rows[batch->nrows++];
	memset(new, 0, sizeof(*new));
	new->row = *row;
	new->row.key = pstrdup(row->key);
	new->row.email = copy_text(row->email);
	new->row.user_id = copy_text(row->user_id);
	new->row.data_email = copy_text(row->data_email);
	new->row.data_user_id = copy_text(row->data_user_id);
	new->row.event_name = copy_text(row->event_name);
	new->row.problem = copy_text(row->problem);
	new->row.problem_detail = copy_text(row->problem_detail);
	new->row.payload = NULL;

	/* kept with a failure */
	if (row->version && may_fail)
		new->row.version = is_version_copy(row->version);
	else if (row->version)
	{
		IsVersion  *version = palloc0_object(IsVersion);

		version->tag = pstrdup(row->version->tag);
		new->row.version = version;
	}
	MemoryContextSwitchTo(old);
	return new;
}

/* Bytes of a request around n payloads: envelope and commas. */
static Size
envelope_bytes(const IsBatch *batch, int n)
{
	return strlen(batch->envelope) +
		strlen(is_api_envelope_close(batch->endpoint)) + n;
}

bool
is_batch_add(IsBatch *batch, const IsRow *row, bool look_up, bool failed_before)
{
	Claim		claims[MAX_ROW_CLAIMS];
	int			n = row_claims(batch, row, claims);
	IsBatchRow *new;

	if (batch->nsend >= IS_MAX_BATCH_ROWS ||
		(batch->nsend > 0 &&
		 batch->payloads.len + row->payload_len +
		 envelope_bytes(batch, batch->nsend + 1) > IS_MAX_BATCH_BYTES))
		return false;
	for (int i = 0; i < n; i++)
		(void) hash_search(batch->claimed, &claims[i], HASH_ENTER, NULL);

	new = append_row(batch, row, true);
	new->to_send = true;
	new->look_up = look_up;
	new->failed_before = failed_before;
	new->payload_at = batch->payloads.len;
	appendBinaryStringInfo(&batch->payloads, row->payload, row->payload_len);
	batch->nsend++;
	return true;
}

void
is_batch_note(IsBatch *batch, const IsRow *row, IsFate fate)
{
	Claim		claim = key_claim(row);
	IsBatchRow *new = append_row(batch, row, fate == IS_FATE_REJECTED);

	/* A later change of the row must not be recorded together with this. */
	(void) hash_search(batch->claimed, &claim, HASH_ENTER, NULL);
	new->fate = fate;
	new->class = new->row.problem;
	new->message = new->row.problem_detail;
}

void
is_batch_note_answer(IsBatch *batch, const IsHttpAnswer *answer)
{
	batch->request_id = answer->request_id[0] ?
		MemoryContextStrdup(batch->context, answer->request_id) : NULL;
}

void
is_batch_settle(IsBatch *batch, int i, IsFate fate, const char *class,
				const char *code, const char *message)
{
	IsBatchRow *row = &batch->rows[i];

	Assert(row->to_send && row->fate == IS_FATE_PENDING);
	row->fate = fate;
	row->class = class;
	row->code = code && code[0] ? MemoryContextStrdup(batch->context, code) : NULL;
	row->message = message && message[0] ? MemoryContextStrdup(batch->context, message) : NULL;
	row->request_id = batch->request_id;
	row->to_send = false;
	batch->nsend--;
}

static bool
has_fresh_rows(const IsBatch *batch)
{
	for (int i = 0; i < batch->nrows; i++)
		if (batch->rows[i].to_send && !batch->rows[i].failed_before)
			return true;
	return false;
}

bool
is_batch_build_request(IsBatch *batch)
{
	batch->sent_again = !has_fresh_rows(batch);
	batch->nsent = 0;
	resetStringInfo(&batch->body);
	appendStringInfoString(&batch->body, batch->envelope);
	for (int i = 0; i < batch->nrows && batch->nsent < batch->send_max; i++)
	{
		IsBatchRow *row = &batch->rows[i];

		if (!row->to_send || row->failed_before != batch->sent_again)
			continue;
		if (row->look_up)
			return false;
		if (batch->nsent > 0)
			appendStringInfoChar(&batch->body, ',');
		appendBinaryStringInfo(&batch->body, batch->payloads.data + row->payload_at,
							   row->row.payload_len);
		batch->sent[batch->nsent++] = i;
	}
	appendStringInfoString(&batch->body, is_api_envelope_close(batch->endpoint));
	return batch->nsent > 0;
}

void
is_batch_pretend(IsBatch *batch)
{
	for (int i = 0; i < batch->nrows; i++)
		batch->rows[i].look_up = false;
	while (is_batch_build_request(batch))
	{
		batch->counts.requests++;
		batch->counts.bytes += batch->body.len;
		for (int k = 0; k < batch->nsent; k++)
			is_batch_settle(batch, batch->sent[k], IS_FATE_PRETENDED, NULL, NULL, NULL);
	}
}

/* ----------------------------------------------------------------
 * Answers
 * ----------------------------------------------------------------
 */

static List *
add_names(IsBatch *batch, List *names, const IsApiFields *fields)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);

	for (int i = 0; i < fields->n; i++)
		names = lappend(names, pstrdup(fields->names[i]));
	MemoryContextSwitchTo(old);
	return names;
}

IsApiRow *
is_batch_read_answer(IsBatch *batch, const IsHttpAnswer *answer,
					 IsApiAnswer *api)
{
	IsApiRow   *rows = palloc0(Max(batch->nsent, 1) * sizeof(IsApiRow));

	for (int k = 0; k < batch->nsent; k++)
	{
		const IsRow *row = &batch->rows[batch->sent[k]].row;

		rows[k].email = row->email;
		rows[k].user_id = row->user_id;
		rows[k].data_email = row->data_email;
		rows[k].data_user_id = row->data_user_id;
		rows[k].event_name = row->event_name;
		rows[k].payload = batch->payloads.data + batch->rows[batch->sent[k]].payload_at;
		rows[k].payload_len = row->payload_len;
	}

	is_batch_note_answer(batch, answer);
	memset(api, 0, sizeof(*api));
	if (answer->outcome == IS_HTTP_ANSWERED)
		is_api_read_answer(batch->endpoint, answer->status, answer->body,
						   answer->body_len, rows, batch->nsent, api);
	else
	{
		api->kind = answer->outcome == IS_HTTP_NOT_SENT ? IS_ANSWER_AGAIN : IS_ANSWER_UNKNOWN;
		strlcpy(api->message, answer->error, sizeof(api->message));
	}
	batch->counts.created_fields = add_names(batch, batch->counts.created_fields,
											 &api->created_fields);
	batch->counts.filtered_fields = add_names(batch, batch->counts.filtered_fields,
											  &api->filtered_fields);
	return rows;
}

bool
is_batch_settle_rows(IsBatch *batch, const IsApiRow *rows, const IsApiAnswer *api)
{
	bool		known = true;

	for (int k = 0; k < batch->nsent; k++)
	{
		switch (rows[k].verdict)
		{
			case IS_VERDICT_ACCEPTED:
				is_batch_settle(batch, batch->sent[k], IS_FATE_ACCEPTED, NULL, NULL, NULL);
				break;
			case IS_VERDICT_REJECTED:
				is_batch_settle(batch, batch->sent[k], IS_FATE_REJECTED,
								rows[k].class, api->code, rows[k].message);
				break;
			case IS_VERDICT_SKIPPED:
				is_batch_settle(batch, batch->sent[k], IS_FATE_SKIPPED, NULL, NULL, NULL);
				break;
			case IS_VERDICT_LATER:
				is_batch_settle(batch, batch->sent[k], IS_FATE_LATER,
								rows[k].class, api->code, rows[k].message);
				break;
			case IS_VERDICT_UNKNOWN:
				known = false;
				break;
			case IS_VERDICT_AGAIN:
				break;
		}
	}
	return known;
}

void
is_batch_settle_refused(IsBatch *batch, const IsApiRow *rows, const IsApiAnswer *api)
{
	is_batch_settle_sent(batch, batch->nsent == 1 && rows[0].verdict == IS_VERDICT_LATER ?
						 IS_FATE_LATER : IS_FATE_REJECTED,
						 api->class, api->code,
						 api->message[0] ? api->message : api->hint);
}

void
is_batch_settle_sent(IsBatch *batch, IsFate fate, const char *class,
					 const char *code, const char *message)
{
	for (int k = 0; k < batch->nsent; k++)
		if (batch->rows[batch->sent[k]].fate == IS_FATE_PENDING)
			is_batch_settle(batch, batch->sent[k], fate, class, code, message);
}

void
is_batch_settle_all(IsBatch *batch, IsFate fate, const char *class,
					const char *code, const char *message)
{
	for (int i = 0; i < batch->nrows; i++)
		if (batch->rows[i].to_send)
			is_batch_settle(batch, i, fate, class, code, message);
}

/* ----------------------------------------------------------------
 * Records
 * ----------------------------------------------------------------
 */

void
is_batch_record(IsBatch *batch, const IsSync *sync)
{
	IsResult   *results = palloc(Max(batch->nrows, 1) * sizeof(IsResult));
	int			n = 0;

	for (int i = 0; i < batch->nrows; i++)
	{
		IsBatchRow *row = &batch->rows[i];

		if (row->recorded || row->fate == IS_FATE_PENDING)
			continue;
		row->recorded = true;
		results[n] = (IsResult) {0};
		results[n].row = &row->row;
		results[n].fate = row->fate;
		results[n].class = row->class;
		results[n].code = row->code;
		results[n].message = row->message;
		results[n].request_id = row->request_id;
		if (row->row.payload_len > 0 && row->row.found && !row->row.problem)
		{
			results[n].payload = batch->payloads.data + row->payload_at;
			results[n].payload_len = row->row.payload_len;
		}
		n++;

		switch (row->fate)
		{
			case IS_FATE_ACCEPTED:
				batch->counts.accepted++;
				break;
			case IS_FATE_UNCHANGED:
			case IS_FATE_REAPPEARED:
				batch->counts.unchanged++;
				break;
			case IS_FATE_SKIPPED:
			case IS_FATE_SEEN:
				batch->counts.skipped++;
				break;
			case IS_FATE_VANISHED:
			case IS_FATE_VANISHED_UNSURE:
				batch->counts.vanished++;
				break;
			case IS_FATE_LEFT:
			case IS_FATE_LEFT_UNSURE:
			case IS_FATE_UNMATCHED:
				batch->counts.filtered++;
				break;
			case IS_FATE_PRETENDED:
				batch->counts.would_send++;
				break;
			case IS_FATE_REJECTED:
				batch->counts.rejected++;
				break;
			case IS_FATE_LATER:
				batch->counts.retried++;
				break;
			case IS_FATE_UNSURE:
			case IS_FATE_PENDING:
				break;
		}
	}
	if (n > 0)
		is_delivery_record(sync, results, n);
	pfree(results);
}

/* ----------------------------------------------------------------
 * Claims
 * ----------------------------------------------------------------
 */

HTAB *
is_batch_claims_create(void)
{
	return create_claims(CurrentMemoryContext);
}

bool
is_batch_taken(const IsBatch *filling, HTAB *claims, const IsRow *row)
{
	Claim		wanted[MAX_ROW_CLAIMS];
	int			n = row_claims(filling, row, wanted);

	for (int i = 0; i < n; i++)
		if (hash_search(claims, &wanted[i], HASH_FIND, NULL) ||
			hash_search(filling->claimed, &wanted[i], HASH_FIND, NULL))
			return true;
	return false;
}

void
is_batch_claim(IsBatch *batch, HTAB *claims)
{
	HASH_SEQ_STATUS status;
	Claim	   *claim;

	hash_seq_init(&status, batch->claimed);
	while ((claim = hash_seq_search(&status)) != NULL)
		(void) hash_search(claims, claim, HASH_ENTER, NULL);
	batch->holds_claims = true;
}

void
is_batch_release(IsBatch *batch, HTAB *claims)
{
	HASH_SEQ_STATUS status;
	Claim	   *claim;

	if (!batch->holds_claims)
		return;
	hash_seq_init(&status, batch->claimed);
	while ((claim = hash_seq_search(&status)) != NULL)
		(void) hash_search(claims, claim, HASH_REMOVE, NULL);
	batch->holds_claims = false;
}

bool
is_batch_shares_user(const IsBatch *a, const IsBatch *b)
{
	bool		a_is_smaller = hash_get_num_entries(a->claimed) < hash_get_num_entries(b->claimed);
	HTAB	   *larger = a_is_smaller ? b->claimed : a->claimed;
	HASH_SEQ_STATUS status;
	Claim	   *claim;

	hash_seq_init(&status, a_is_smaller ? a->claimed : b->claimed);
	while ((claim = hash_seq_search(&status)) != NULL)
		if ((*claim & USER_CLAIM) && hash_search(larger, claim, HASH_FIND, NULL))
		{
			hash_seq_term(&status);
			return true;
		}
	return false;
}

/* ----------------------------------------------------------------
 * Known keys
 * ----------------------------------------------------------------
 */

#define MAX_KNOWN_KEYS 100000

/* Two hashes: of keys that collided, one would pass for known. */
typedef struct KnownKey
{
	uint64		hash[2];
} KnownKey;

static KnownKey
known_key(const IsRow *row)
{
	const unsigned char *key = (const unsigned char *) row->key;
	int			len = (int) strlen(row->key);

	return (KnownKey) {{hash_bytes_extended(key, len, 4), hash_bytes_extended(key, len, 5)}};
}

HTAB *
is_batch_known_create(void)
{
	HASHCTL		ctl = {
		.keysize = sizeof(KnownKey),
		.entrysize = sizeof(KnownKey),
		.hcxt = CurrentMemoryContext
	};

	return hash_create("iterable_sync known keys", 1024, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void
is_batch_enter_known(const IsBatch *batch, HTAB *known)
{
	for (int i = 0; i < batch->nrows && hash_get_num_entries(known) < MAX_KNOWN_KEYS; i++)
	{
		KnownKey	key = known_key(&batch->rows[i].row);

		if (batch->rows[i].fate != IS_FATE_UNSURE)
			(void) hash_search(known, &key, HASH_ENTER, NULL);
	}
}

bool
is_batch_is_known(HTAB *known, const IsRow *row)
{
	KnownKey	key = known_key(row);

	return hash_search(known, &key, HASH_FIND, NULL) != NULL;
}
