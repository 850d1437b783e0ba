-- What the emulator was asked and has, beside what the history says; each view
-- below shows what must not be.

CREATE TABLE model.request (
	n bigint PRIMARY KEY, at double precision, ended double precision, event bool, status int, action text,
	rows int, accepted int, body text);
CREATE TABLE model.interruption (since double precision, until double precision);
CREATE TABLE model.there (event bool, doc jsonb);

-- calls of iterable_send_row(); "kept": the transaction was surely committed
CREATE TABLE model.sent_row (
	since double precision, until double precision, source text, id int, verdict text, kept bool);
CREATE INDEX ON model.sent_row (source, id);

-- one row of a request; "taken": Iterable has surely accepted it, "doubtful":
-- so that it must be asked again
CREATE TABLE model.sent (
	n bigint, at double precision, ended double precision, taken bool, doubtful bool,
	source text, id int, ver int, token text, flip int, note text, who text, event text);
CREATE INDEX ON model.sent (source, id, n);
CREATE INDEX ON model.sent (who, n);

CREATE FUNCTION model.is_json(t text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN t::jsonb IS NOT NULL;
EXCEPTION WHEN OTHERS THEN
	RETURN false;
END
$$;

CREATE FUNCTION model.source_of(email text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN lower(substring(email from '^[A-Za-z]+'));

CREATE FUNCTION model.understand(since bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO model.sent
	SELECT n, at, ended,
		-- and the client, which waits a second, has not given up before
		status = 200 AND accepted = rows AND coalesce(action, 'apply') IN ('apply', 'slow', 'close') AND ended - at < 0.9,
		status IS NULL OR status IN (408, 429, 500, 502, 503, 504) OR action IN ('truncate', 'garbage'),
		source, (f ->> 'row')::int, (f ->> 'ver')::int, f ->> 'token', (f ->> 'flip')::int, f ->> 'note',
		CASE WHEN event THEN source || (f ->> 'row') ELSE lower(u ->> 'email') END, CASE WHEN event THEN u ->> 'id' END
	FROM model.request
	CROSS JOIN LATERAL jsonb_array_elements(body::jsonb -> CASE WHEN event THEN 'events' ELSE 'users' END) AS u
	CROSS JOIN LATERAL (SELECT u -> 'dataFields', model.source_of(u ->> 'email')) AS x (f, source)
	WHERE n > since AND model.is_json(body)
$$;

-- a process that knew what was under way has gone, or a run began anew, between
CREATE FUNCTION model.interrupted(from_time double precision, to_time double precision) RETURNS bool LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM model.interruption WHERE from_time <= until AND to_time >= since);

-- of these tables every version is sent
CREATE FUNCTION model.is_versioned(source text) RETURNS bool LANGUAGE sql IMMUTABLE
RETURN source IN ('entry', 'step', 'phase');

CREATE VIEW model.tables AS
	SELECT 'person' AS source, p.* FROM person p UNION ALL SELECT 'account', a.* FROM account a
	UNION ALL SELECT 'visit', v.* FROM visit v UNION ALL SELECT 'toggle', t.* FROM toggle t
	UNION ALL SELECT 'entry', e.* FROM entry e;

-- the state that a transaction left behind, or each
CREATE VIEW model.committed AS
	SELECT DISTINCT ON (source, id, xid, CASE WHEN model.is_versioned(source) THEN ver END) *
	FROM model.history ORDER BY source, id, xid, CASE WHEN model.is_versioned(source) THEN ver END, ver DESC;
CREATE VIEW model.latest AS
	SELECT DISTINCT ON (source, id) * FROM model.history ORDER BY source, id, ver DESC;

CREATE VIEW model.version AS
	SELECT source, id, ver, jsonb_strip_nulls(CASE WHEN source = 'phase' THEN jsonb_build_object('row', id, 'flip', flip)
		ELSE jsonb_build_object('row', id, 'ver', ver, 'token', token, 'flip', flip, 'note', note) END) AS doc
	FROM model.history WHERE present AND model.is_versioned(source);

CREATE FUNCTION model.sent_row_of(source text, id int, at double precision) RETURNS model.sent_row LANGUAGE sql STABLE
RETURN (SELECT r FROM model.sent_row r
	WHERE r.source = sent_row_of.source AND r.id = sent_row_of.id AND at BETWEEN since AND until LIMIT 1);

-- a request beside the one before it of the same row
CREATE VIEW model.follows AS
	SELECT s.*, lag(n) OVER w AS n1, lag(at) OVER w AS at1, lag(ver) OVER w AS ver1, lag(flip) OVER w AS flip1,
		lag(taken) OVER w AS taken1, lag(doubtful) OVER w AS doubtful1, lag(event) OVER w AS event1
	FROM model.sent s WINDOW w AS (PARTITION BY source, id ORDER BY n);

-- ----------------------------------------------------------------
-- What must not be
-- ----------------------------------------------------------------

CREATE VIEW model."a request that is not understood" AS
	SELECT n, action, rows, count(s.n) FROM model.request LEFT JOIN model.sent s USING (n)
	WHERE model.is_json(body) GROUP BY n
	HAVING count(s.n) = 0 OR count(*) FILTER (WHERE s.id IS NULL OR s.source IS NULL) > 0 OR rows > count(s.n);

CREATE VIEW model."a state that was sent and never committed, or undone by a crash" AS
	SELECT s.* FROM model.sent s WHERE source NOT IN ('toggle', 'phase') AND NOT EXISTS (
		SELECT FROM model.committed c WHERE c.present AND c.source = s.source AND c.id = s.id AND c.ver = s.ver
		AND (c.token, c.flip) = (s.token, s.flip) AND c.note IS NOT DISTINCT FROM s.note);

-- as an event of its own a version that has failed may come late
CREATE VIEW model."an older version after a newer one" AS
	SELECT * FROM model.follows WHERE ver < ver1 AND source <> 'step';

CREATE VIEW model."a row whose versions were not sent in order, as they were committed" AS
	SELECT * FROM (SELECT source, id, array_agg(doc ORDER BY ver) AS committed FROM model.version GROUP BY source, id) c
	FULL JOIN (SELECT source, id, array_agg(doc ORDER BY n) AS sent
		FROM (SELECT DISTINCT ON (source, id, event, ver) source, id, n, jsonb_strip_nulls(
				jsonb_build_object('row', id, 'ver', ver, 'token', token, 'flip', flip, 'note', note)) AS doc
			FROM model.sent WHERE model.is_versioned(source) ORDER BY source, id, event, ver, n) s
		GROUP BY source, id) s USING (source, id)
	WHERE committed IS DISTINCT FROM sent;

-- who has gone is not seen to have gone at once
CREATE VIEW model."a user or an event in two requests at once" AS
	SELECT * FROM (SELECT n, at, source, id, who, lag(n) OVER w AS n1,
			max(ended) OVER (PARTITION BY who ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS ended1,
			lag(at) OVER w AS at1
		FROM (SELECT DISTINCT ON (who, n) * FROM model.sent) s WINDOW w AS (PARTITION BY who ORDER BY n)) x
	WHERE ended1 - at > 0.02 AND NOT model.interrupted(at1, at);

-- what became of a row that was sent by hand is for the caller to see
CREATE VIEW model."something newer before an unknown outcome was asked again" AS
	SELECT * FROM model.follows WHERE doubtful1 AND (ver, event) IS DISTINCT FROM (ver1, event1)
		AND NOT model.interrupted(at1, at) AND (model.sent_row_of(source, id, at1)) IS NULL;

-- what is sent by hand is sent, and what is known of it may be rolled back; a
-- window whose worker has ended is resumed with all its keys, also with those
-- that were sent by hand before that
CREATE VIEW model."a row that was sent again as it was accepted" AS
	SELECT * FROM model.follows WHERE taken1 AND (ver, event) IS NOT DISTINCT FROM (ver1, event1) AND flip = flip1
		AND NOT model.interrupted(CASE WHEN model.sent_row_of(source, id, at1) IS NULL THEN at1 ELSE at1 - 5 END, at)
		AND (model.sent_row_of(source, id, at)) IS NULL
		AND coalesce((model.sent_row_of(source, id, at1)).kept, true);

CREATE VIEW model."a version that was sent again as it was accepted" AS
	SELECT * FROM (SELECT s.*, lag(at) OVER w AS at1, lag(taken) OVER w AS taken1
		FROM model.sent s WHERE model.is_versioned(source) WINDOW w AS (PARTITION BY event, ver ORDER BY n)) x
	WHERE taken1 AND NOT model.interrupted(at1, at);

CREATE VIEW model."a row that was said to be accepted by hand, and was not" AS
	SELECT * FROM model.sent_row r WHERE verdict = 'accepted' AND NOT EXISTS (
		SELECT FROM model.sent s JOIN model.request q USING (n)
		WHERE s.source = r.source AND s.id = r.id AND s.at BETWEEN r.since AND r.until AND q.rows = 1 AND q.accepted = 1);

CREATE VIEW model."a row that Iterable has otherwise than the table" AS
	SELECT t.source, t.id, t.ver, t.token, t.flip, t.note, h.doc FROM model.tables t
	LEFT JOIN model.there h ON h.event = (t.source IN ('visit', 'entry')) AND lower(h.doc ->> 'email') = lower(t.email)
		AND (NOT h.event OR (h.doc #>> '{dataFields,row}')::int = t.id)
	WHERE t.email LIKE '%@%' AND h.doc -> 'dataFields' IS DISTINCT FROM
		jsonb_strip_nulls(CASE WHEN t.source = 'toggle' THEN jsonb_build_object('row', t.id, 'flip', t.flip)
			ELSE jsonb_build_object('row', t.id, 'ver', t.ver, 'token', t.token, 'flip', t.flip, 'note', t.note) END)
	-- of two rows of one user, it has the one that was sent last
	AND NOT (t.source = 'person' AND t.id BETWEEN 31 AND 40 AND EXISTS (
		SELECT FROM model.sent s WHERE s.who = lower(t.email) AND s.id <> t.id
		AND (s.id, s.ver, s.token, s.flip) = ((h.doc #>> '{dataFields,row}')::int,
			(h.doc #>> '{dataFields,ver}')::int, h.doc #>> '{dataFields,token}', (h.doc #>> '{dataFields,flip}')::int)
		AND s.n > ALL (SELECT o.n FROM model.sent o WHERE o.source = t.source AND o.id = t.id AND o.taken)));

CREATE VIEW model."an event that is there twice" AS
	SELECT doc ->> 'eventName' AS source, doc #>> '{dataFields,row}' AS row, count(*) FROM model.there
	WHERE event AND doc ->> 'eventName' IN ('visit', 'entry') GROUP BY 1, 2 HAVING count(*) > 1;

CREATE VIEW model."a version that is not one event" AS
	WITH committed AS (SELECT source, doc FROM model.version WHERE source <> 'entry'),
		there AS (SELECT doc ->> 'eventName', doc -> 'dataFields' FROM model.there
			WHERE event AND doc ->> 'eventName' IN ('step', 'phase'))
	(SELECT 'missing', * FROM (SELECT * FROM committed EXCEPT ALL SELECT * FROM there) m)
	UNION ALL (SELECT 'more', * FROM (SELECT * FROM there EXCEPT ALL SELECT * FROM committed) m);

-- of a row that changes back, "unchanged" leaves no trace; events of their own
-- are asked for above; a version may be accepted after its row has gone
CREATE VIEW model."a change without a verdict after it" AS
	SELECT l.*, d.state, d.at AS recorded_at FROM model.latest l
	LEFT JOIN iterable.delivery d ON d.sync = l.source AND d.key = l.id::text
	LEFT JOIN iterable.failure f ON f.sync = l.source AND f.key = l.id::text
	WHERE l.source NOT IN ('step', 'phase') AND CASE
		WHEN l.present THEN f.key IS NULL AND (d.state IS DISTINCT FROM 'accepted' OR d.at < l.at AND l.source <> 'toggle')
		ELSE f.key IS NOT NULL OR d.state = 'accepted' AND l.source <> 'entry' END;

CREATE VIEW model."a failure that nothing explains" AS
	SELECT * FROM iterable.failure WHERE NOT (sync = 'person' AND key::int BETWEEN 41 AND 44 AND class = 'bad_email');
