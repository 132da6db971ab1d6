-- valid: the tokens that are valid now.
SELECT digest, name, scopes, expires_at FROM tokens
WHERE revoked_at IS NULL AND expires_at > current_instant()
ORDER BY created_at DESC LIMIT 10000;

-- sessions: the sessions of the pages that are valid now, with what their tokens open: null for the operator's, which has a proof.
SELECT s.digest, t.name, t.scopes, least(s.expires_at, t.expires_at) AS expires_at, s.proof
FROM page_sessions s LEFT JOIN tokens t ON t.token_id = s.token_id
WHERE s.expires_at > current_instant()
  AND (t.token_id IS NULL OR (t.revoked_at IS NULL AND t.expires_at > current_instant()))
ORDER BY s.created_at DESC LIMIT 10000;

-- open_session: opens a session with the digest $1 of the token with the digest $2, or of the operator's, proved by $3, for $4.
SELECT open_page_session($1, $2, $3, $4);

-- close_session: ends the session with the digest $1.
SELECT close_page_session($1);

-- created: creates a token. $1 name, $2 digest, $3 scopes, $4 for how long.
SELECT * FROM create_token($1, $2, $3, $4);

-- listed: all tokens, newest first.
SELECT token_id, name, scopes, created_at, expires_at, revoked_at,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= current_instant() THEN 'expired' ELSE 'valid' END AS state
FROM tokens ORDER BY created_at DESC, token_id;

-- revoked: revokes the tokens with the id or name $1; how many there were.
SELECT revoke_token($1);
